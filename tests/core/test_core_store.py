"""What the daemon may ask of a file."""

import inspect

from webhookd.core.store import Store


def test_a_store_is_synchronous_and_says_what_each_of_its_methods_does() -> None:
    """Nothing of it may be awaited: between `begin` and `commit` nobody else gets a turn."""
    methods = {name: one for name, one in vars(Store).items() if not name.startswith("_")}
    assert {"begin", "commit", "rollback", "ingest", "record"} <= methods.keys()
    assert not [name for name, one in methods.items() if inspect.iscoroutinefunction(one)]
    assert [name for name, one in methods.items() if not inspect.getdoc(one)] == []
