from webhookd.core.holding import LOGGED, Daemon, problem_of, seen, told


def test_what_is_told_is_found_again() -> None:
    problems = ["ingest has stopped", told("acme", "env:KEY: not there"), told("acme 2", "gone")]
    assert problems[1] == "subscription acme is held back: env:KEY: not there"
    assert problem_of("acme", problems) == "env:KEY: not there"
    assert problem_of("acme 2", problems) == "gone"
    assert problem_of("acm", problems) == ""


def test_who_says_nothing_holds_nobody_back() -> None:
    assert Daemon(running=True).holds_back("acme", 1) == ""
    assert Daemon(running=True, problems=(told("acme", "why"),)).holds_back("acme", 1) == "why"


def test_of_more_than_are_named_the_keys_tell() -> None:
    lock = {"problems": [told("acme", "why"), "and 2 more"], "held_back": [[2, 2], [5, 7]]}
    daemon = seen(lock, held=True)
    assert daemon.holds_back("acme", 2) == "why"
    held = [key for key in range(10) if daemon.holds_back("other", key) == LOGGED]
    assert held == [2, 5, 6, 7]
    assert seen(lock, held=False).holds_back("acme", 2) == ""


def test_an_older_daemon_says_no_keys() -> None:
    assert seen({"problems": None, "held_back": "odd"}, held=True) == Daemon(running=True)
