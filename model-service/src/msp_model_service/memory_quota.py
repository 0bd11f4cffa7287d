"""How much main memory is left to this process: the machine's, within its control groups' limits."""

from msp_model_service.control_groups import Group, ReadText, folders, read_text

_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By version: the limit, what is used of it, and the field of memory.stat for what can be dropped at once."""


def free_memory(read: ReadText = read_text) -> int | None:
    """Bytes that may still be taken; null where the machine tells nothing.

    The smallest of what the machine has free and what the limit of each control group leaves.
    """
    known = [_available(read("/proc/meminfo")), *(_left(group, read) for group in folders("memory", read))]
    return min((left for left in known if left is not None), default=None)


def _available(meminfo: str | None) -> int | None:
    kibibytes = _field("MemAvailable:", meminfo)
    return kibibytes * 1024 if kibibytes is not None else None


def _left(group: Group, read: ReadText) -> int | None:
    """None where there is no limit, or no such group."""
    limit_file, used_file, droppable_field = _FILES[group.version]
    limit, used = ((read(f"{group.path}/{name}") or "").strip() for name in (limit_file, used_file))
    if not (limit.isdigit() and used.isdigit()):
        return None
    # Files count as used while they are cached, such as the weights that have just been read.
    droppable = _field(droppable_field, read(f"{group.path}/memory.stat")) or 0
    return max(0, int(limit) - max(0, int(used) - droppable))


def _field(name: str, text: str | None) -> int | None:
    """The number behind a name at a line's beginning."""
    lines = (line.split() for line in (text or "").splitlines())
    return next((int(words[1]) for words in lines if len(words) > 1 and words[0] == name), None)
