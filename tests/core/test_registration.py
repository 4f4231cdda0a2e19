"""What a subscription may be, field by field."""

from dataclasses import replace

import pytest

from webhookd.core import registration
from webhookd.core.egress import parse_policy
from webhookd.core.profiles import BUILT_IN, own
from webhookd.core.registration import Unfit, Wanted

STANDARD = BUILT_IN.get("standard")
NOTHING_SPECIAL = parse_policy([], [])
SECRET = "whsec_" + "QUFB" * 8


def refusal(call, *args):
    with pytest.raises(Unfit) as caught:
        call(*args)
    return caught.value


def test_a_subscription_by_default():
    made = registration.judge(
        Wanted("https://Partner.example:443/in?k=1"), NOTHING_SPECIAL, BUILT_IN
    )
    assert made.url.text == "https://partner.example/in?k=1"
    assert (made.events, made.tenant, made.mode, made.method) == (("*",), "", "", "POST")
    assert made.profile is STANDARD
    assert (made.headers, made.policy) == ((), {})
    assert "k=1" not in repr(made)


def test_a_subscription_with_everything():
    wanted = Wanted(
        "https://partner.example/",
        events=["a.*", "b", "a.*"],
        tenant="north",
        profile="standard",
        method="post",
        headers=(("X-Key", "abc"),),
        policy={"timeout": "3s", "retry_delays": "1s,2s"},
    )
    made = registration.judge(wanted, NOTHING_SPECIAL, BUILT_IN)
    assert made.events == ("a.*", "b")
    assert (made.tenant, made.method) == ("north", "POST")
    assert made.headers == (("X-Key", "abc"),)
    assert made.policy == {"timeout": 3_000, "retry_delays": [1_000, 2_000]}
    assert "abc" not in repr(wanted)


def test_an_unknown_profile():
    wanted = Wanted("https://x.example/", profile="standart")
    unfit = refusal(registration.judge, wanted, NOTHING_SPECIAL, BUILT_IN)
    assert unfit.field == "profile"
    assert str(unfit).startswith("profile: no profile 'standart'; did you mean 'standard'? there")


def test_a_url_that_is_none():
    unfit = refusal(registration.url, "https://u:p@x.example/", NOTHING_SPECIAL)
    assert (unfit.field, unfit.forbidden) == ("url", False)
    assert unfit.reason.startswith("it holds a user name")


@pytest.mark.parametrize(
    ("source", "place"),
    [("", "a file named by --config or WEBHOOKD_CONFIG"), ("/etc/w\n.toml", "/etc/w\\n.toml")],
)
@pytest.mark.parametrize(
    ("deny", "remedy"),
    [
        ([], 'if it is meant, say [egress] allow = ["10.0.0.1"] in '),
        (["10.0.0.1"], "if it is meant, take it out of [egress] deny in "),
    ],
)
def test_a_url_that_is_not_allowed(deny, remedy, source, place):
    policy = replace(parse_policy([], deny), source=source)
    unfit = refusal(registration.url, "https://10.0.0.1/", policy)
    assert (unfit.field, unfit.forbidden) == ("url", True)
    assert unfit.reason.startswith("blocked: 10.0.0.1 is ")
    assert unfit.reason.endswith(remedy + place)


@pytest.mark.parametrize(
    ("patterns", "profile", "said"),
    [
        ([], "standard", "there is no pattern"),
        ([""], "standard", "an event pattern is empty"),
        (["a", "sup plier"], "standard", 'no event can match "sup plier"'),
        ([f"t{number}" for number in range(1_001)], "standard", "1001 patterns; 1000 are allowed"),
        (["a.*"], "ntropy", "profile ntropy takes exact event types"),
    ],
)
def test_patterns_that_will_not_do(patterns, profile, said):
    unfit = refusal(registration.events, patterns, BUILT_IN.get(profile))
    assert unfit.field == "events"
    assert said in unfit.reason


@pytest.mark.parametrize("text", ["x" * 513, "a\nb", " a", "a ", "\udcff"])
def test_a_tenant_that_will_not_do(text):
    assert refusal(registration.tenant, text, STANDARD).field == "tenant"


@pytest.mark.parametrize("text", ["", "x" * 512, "a b", "Müller"])
def test_a_tenant_that_will(text):
    assert registration.tenant(text, STANDARD) == text


@pytest.mark.parametrize("text", ["", "x" * 301, "a\tb", " a", "a ", "wh_x", "-x"])
def test_a_name_that_will_not_do(text):
    assert refusal(registration.name, text).field == "name"


@pytest.mark.parametrize("text", ["x" * 300, "Müller & Co", "partner.example-2"])
def test_a_name_that_will(text):
    assert registration.name(text) == text


def test_a_name_is_derived_from_the_host():
    assert registration.derive_name("a.example", ()) == "a.example"
    assert registration.derive_name("a.example", {"a.example"}) == "a.example-2"
    taken = {"a.example", "a.example-2", "a.example-3"}
    assert registration.derive_name("a.example", taken) == "a.example-4"


def test_a_method_that_the_profile_has_not():
    unfit = refusal(registration.method, "DELETE\x1b", STANDARD)
    assert str(unfit) == "method: profile standard takes POST, not DELETE\\x1b"


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("Host", "HUSH")], "header Host: webhookd sets it itself"),
        ([("X-A", "HUSH"), ("x-a", "HUSH")], "header x-a: is there twice"),
        ([("X-A", "HU\nSH")], "must be visible ASCII"),
        ([(f"X-{number}", "HUSH") for number in range(101)], "101 headers; 100 are allowed"),
    ],
)
def test_headers_that_will_not_do(pairs, said):
    unfit = refusal(registration.headers, pairs, STANDARD)
    assert unfit.field == "headers"
    assert said in unfit.reason
    assert "HU" not in str(unfit)


def test_a_policy_that_will_not_do_is_named_by_its_key():
    assert refusal(registration.policy, {"timeout": "1h"}, STANDARD).field == "timeout"
    assert refusal(registration.policy, {"speed": "1"}, STANDARD).field == "speed"


FLORIDAY, CLOUDEVENTS = BUILT_IN.get("floriday"), BUILT_IN.get("cloudevents")


def test_a_profile_that_is_for_one_tenant_needs_its_id():
    unfit = refusal(registration.tenant, "", FLORIDAY)
    assert str(unfit) == ("tenant: profile floriday is for one tenant a subscription; name its id")
    assert registration.tenant("org_1", FLORIDAY) == "org_1"


def test_what_a_profile_fixes_cannot_be_changed():
    unfit = refusal(registration.policy, {"timeout": "1s", "coalesce": "yes"}, FLORIDAY)
    assert unfit.field == "coalesce"
    assert "at least one event for each change" in unfit.reason
    assert registration.policy({"coalesce": True}, STANDARD) == {"coalesce": True}


def test_a_profile_of_ones_own_leaves_its_ordering_with_the_subscription():
    mine = own.make("mine", {"base": "standard", "ordering": "subscription"}, BUILT_IN)
    known = BUILT_IN.with_these({"mine": mine}, "")

    def policy(**written):
        wanted = Wanted("https://x.example/", profile="mine", policy=written)
        return registration.judge(wanted, NOTHING_SPECIAL, known).policy

    assert policy() == {"ordering": "subscription"}
    assert policy(ordering="none", timeout="1s") == {"ordering": "none", "timeout": 1_000}


def test_a_mode_is_one_of_the_profiles():
    assert registration.mode("", STANDARD) == ""
    assert registration.mode("", CLOUDEVENTS) == "structured"
    assert registration.mode("binary", CLOUDEVENTS) == "binary"
    assert "has no modes" in str(refusal(registration.mode, "binary", STANDARD))
    unfit = refusal(registration.mode, "bin\x1b", CLOUDEVENTS)
    assert str(unfit) == ("mode: profile cloudevents takes structured or binary, not bin\\x1b")


def test_secrets():
    assert registration.secret(SECRET, STANDARD) == SECRET
    unfit = refusal(registration.secret, "HUSHHUSH", STANDARD)
    assert str(unfit) == "secret: the secret must begin with whsec_"
