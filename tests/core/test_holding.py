from webhookd.core.holding import Daemon, problem_of, told


def test_what_is_told_is_found_again() -> None:
    problems = ["ingest has stopped", told("acme", "env:KEY: not there"), told("acme 2", "gone")]
    assert problems[1] == "subscription acme is held back: env:KEY: not there"
    assert problem_of("acme", problems) == "env:KEY: not there"
    assert problem_of("acme 2", problems) == "gone"
    assert problem_of("acm", problems) == ""


def test_who_says_nothing_holds_nobody_back() -> None:
    assert Daemon(running=True).holds_back("acme") == ""
    assert Daemon(running=True, problems=(told("acme", "why"),)).holds_back("acme") == "why"
