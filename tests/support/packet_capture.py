"""The first packet of every connection, and every datagram, on all interfaces of a network namespace."""

import ctypes
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from support.egress_rule import Packet, read_packet

_ETH_P_ALL, _IPV4, _IPV6, _TCP = 3, 0x0800, 0x86DD, 6
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ROOM = 16 * 2**20
# (operation, jump if true, jump if false, operand): of TCP what has SYN and no ACK, and all else of IP.
# Without it, each packet of a model's gigabytes would be looked at in Python.
_FILTER = (
    (0x28, 0, 0, 0xFFFFF000),  # 0: the frame's protocol
    (0x15, 0, 5, _IPV4),
    (0x30, 0, 0, 9),
    (0x15, 0, 9, _TCP),
    (0xB1, 0, 0, 0),  # 4: X = the length of IPv4's header
    (0x50, 0, 0, 13),  # TCP's flags
    (0x05, 0, 0, 4),
    (0x15, 0, 6, _IPV6),  # 7
    (0x30, 0, 0, 6),
    (0x15, 0, 3, _TCP),
    (0x30, 0, 0, 53),  # TCP's flags after IPv6's header
    (0x54, 0, 0, 0x12),  # 11
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0xFFFF),  # 13: take it
    (0x06, 0, 0, 0),  # 14: pass it by
)


class PacketsLost(AssertionError):
    """More came than could be looked at, so the record proves nothing."""


class PacketCapture:
    """Tells `seen` of each packet, in the order they came; one that crosses interfaces at each."""

    def __init__(self, capture: socket.socket, seen: Callable[[Packet], None]) -> None:
        self._capture, self._seen = capture, seen
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises PacketsLost."""
        told = self._capture.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        lost = struct.unpack("II", told)[1]
        if lost:
            raise PacketsLost(f"{lost} packets came faster than they were read")

    def close(self) -> None:
        """Ends the capture."""
        # Closing alone does not wake the thread; the next timeout does.
        self._ends.set()
        self._thread.join()
        self._capture.close()

    def _read(self) -> None:
        while not self._ends.is_set():
            with suppress(TimeoutError):
                packet = read_packet(self._capture.recv(4096))
                if packet is not None:
                    self._seen(packet)


def open_capture() -> socket.socket:
    """A socket for PacketCapture in the network namespace of the calling thread. Needs root."""
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    program = b"".join(struct.pack("HBBI", *step) for step in _FILTER)
    place = ctypes.create_string_buffer(program)
    capture.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_FILTER), ctypes.addressof(place))
    )
    capture.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    # What came before the filter was in place.
    capture.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            capture.recv(1)
    capture.settimeout(0.2)
    return capture
