"""The events of the log: each has a name, and an id by which `journalctl -x` explains it.

`logger.info("…", extra=CLAIMED.extra)`. The ids stand in `systemd/fondation-worker.catalog`, with
what happened and what to do; a test compares. An id that was once published is never used again.
"""

from dataclasses import dataclass

from fondation_worker.job import Token


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, for programs that read the log."""

    name: str  # FONDATION_EVENT
    id: str  # MESSAGE_ID: 32 hex digits, made by `systemd-id128 new`

    @property
    def extra(self) -> dict[str, object]:
        """The `extra` of a log call."""
        return {"event": self}

    def about(self, token: Token) -> dict[str, object]:
        """Return the `extra` of a log call outside the job that it is about."""
        return {"event": self, "token": token}


STARTED = Event("started", "1edd6a967ac446939aa00d5e0aafab7c")
STOPPED = Event("stopped", "57c82c7a880b462d8d1b4b04a3309bbf")
STOPPING = Event("stopping", "c226c2a6f2004615a480e0c73243e71c")
UPGRADED = Event("upgraded", "43bd7f73a6d34b2e9e868ed5d6830aed")
BAD_SETTINGS = Event("bad_settings", "d790f7311ef24623a7879b4b956bef86")
RELOADED = Event("reloaded", "cd1aef98eac44f6286094091dd0b2982")
RELOAD_REFUSED = Event("reload_refused", "d711c7c6928d444ebad07544f91579bd")
RESTART_NEEDED = Event("restart_needed", "4df101356c6947c9a2cf5f8d5c93e40c")
CLAIMED = Event("job_claimed", "1dbe22f98c3443c2951cb3eccf188666")
CLONED = Event("job_cloned", "5b1addf9ccc944c0a5d006ebaa315d0a")
ANALYSED = Event("job_analysed", "db0e84bef9d746fd86d794214a52da35")
COMPLETED = Event("job_completed", "d5fe68bcb0704846a1b355953edeee3f")
FAILED = Event("job_failed", "05db2c359a574c158cdb4296544f2ed4")
RELEASED = Event("job_released", "efb8ad3b37d4492280c980aea3e0bd36")
CANCELED = Event("job_canceled", "6420ee161ed647bfa378b8d1a8aa0545")
LEASE_LOST = Event("lease_lost", "072d81d802114e25beaaac184282f039")
RESULT_WAITS = Event("result_waits", "4f370a2b17e14eb7af7690ecb002f301")
RESULT_REFUSED = Event("result_refused", "9fc15437aed945e78cef6ec4e928c4c5")
RESULT_LOST = Event("result_lost", "44f8be8dd9b24094829473711c28e085")
HELD = Event("claims_held", "0bd4c388e57d4900aabd953afbcc4528")
RESUMED = Event("claims_resumed", "3a16b4717bdf42a78262ac1eeb2d6d64")
CONVEX_LOST = Event("convex_unreachable", "34e5d30e0a6a46fcb9929bc4eee4882f")
CONVEX_FOUND = Event("convex_reachable", "0a45173700a447218756870e417140fb")
PUSH_LOST = Event("push_down", "a55f2a1d79c141298fd3f3977785db5b")
KEY_REFUSED = Event("key_refused", "c8e1f0a95d5c4b0e8f6f6ad2b1c54b9d")
CREDENTIAL_REFUSED = Event("credential_refused", "7e3c745233294d11af40ae7f98d9e05d")
NO_PORT = Event("port_taken", "da6dcf5742f940ec89a8c41a308ffbc0")
FAULT = Event("fault", "b3cb1b83466e4e2b947ad45eae059c3b")
