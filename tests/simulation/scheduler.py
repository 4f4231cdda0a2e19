"""One order of tasks a seed: Trio in virtual time, with its coin tosses under our control.

Trio shuffles each batch of tasks that can run. Here the batch is sorted first and shuffled by a
generator that the seed starts (Trio has this switch for Hypothesis), so the same seed runs the
same steps in the same order in every process, whatever PYTHONHASHSEED says. `Steps` counts them:
a step is what a task does between two awaits, so "before step n" is any await there is.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
import trio._core._run as trio_run

FOR_EVER: Final = 1e6
"""Seconds: nothing is left to happen. Only an interrupt comes in such a wait."""


class VirtualTime(trio.abc.Clock):
    """Time that stands still while anybody works, and is the next deadline once all wait.

    Nothing here waits for the world outside, so no real time passes: Trio asks how long to sleep
    only when no task can run, and is told: not at all, it is that time already.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        """Nothing is to be started."""

    def current_time(self) -> float:
        """Seconds since the story began."""
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Let it be `deadline`; real seconds to sleep until then: none."""
        if math.isinf(deadline):
            return FOR_EVER
        self._now = max(self._now, deadline)
        return 0.0


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and sets off one thing at a chosen one."""

    def __init__(self) -> None:
        self.count = 0
        self._at: int | None = None
        self._bomb: Callable[[], None] | None = None
        self.error: BaseException | None = None
        """What the bomb raised: Trio lets an instrument raise nothing."""

    def arm(self, steps: int, bomb: Callable[[], None]) -> None:
        """Call `bomb` before the step that is so many steps ahead."""
        self._at, self._bomb = self.count + steps, bomb

    def disarm(self) -> None:
        """Call nothing."""
        self._at = self._bomb = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Trio's hook."""
        self.count += 1
        if self._at is not None and self.count >= self._at and self._bomb is not None:
            bomb = self._bomb
            self.disarm()
            try:
                bomb()
            except BaseException as error:  # noqa: BLE001 - it is raised at the end of the run
                self.error = error


def run(seed: int, main: Callable[[Steps], Awaitable[Any]]) -> Any:
    """Run `main` to its end in virtual time, in the order that `seed` decides."""
    steps = Steps()
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(seed)
    try:
        result = trio.run(main, steps, clock=VirtualTime(), instruments=[steps])
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        trio_run._r.seed()
    if steps.error is not None:
        raise steps.error
    return result
