"""The GPUs as nvidia-smi prints them."""

import pytest

from msp_cli.plan.inventory import BadInventory, read_inventory

REAL = """\
0, GPU-5f0e8a7c-0c5b-4f0a-9d54-8f7d8f2b1c3d, NVIDIA H100 80GB HBM3, 81559, 4
1, GPU-a1b2c3d4-0c5b-4f0a-9d54-8f7d8f2b1c3d, NVIDIA H100 80GB HBM3, 81559, 61234
"""


def test_the_output_of_nvidia_smi_is_read() -> None:
    first, second = read_inventory(REAL)
    assert (first.index, first.name, first.total_bytes) == (0, "NVIDIA H100 80GB HBM3", 81559 * 2**20)
    assert second.used_bytes == 61234 * 2**20
    assert second.is_called("1")
    assert second.is_called("GPU-a1b2c3d4-0c5b-4f0a-9d54-8f7d8f2b1c3d")
    assert not second.is_called("0")


def test_a_list_with_heading_and_units_is_read_too() -> None:
    text = "index, uuid, name, memory.total [MiB], memory.used [MiB]\n0, GPU-a, L4, 23034 MiB, 0 MiB\n"
    assert [gpu.total_bytes for gpu in read_inventory(text)] == [23034 * 2**20]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no GPU is listed"),
        ("0, GPU-a, L4, 23034\n", "line 1 has 4 fields"),
        ("0, GPU-a, L4, 1, 0\nx, GPU-b, L4, 1, 0\n", "line 2"),
        ("0, GPU-a, NVIDIA GB10, [N/A], [N/A]\n", "by hand"),
        ("0, GPU-a, L4, 1, 0\n0, GPU-b, L4, 1, 0\n", "the index 0 is listed twice"),
        ("0, GPU-a, L4, 1, 0\n1, GPU-a, L4, 1, 0\n", "the UUID GPU-a is listed twice"),
        ('0, GPU-a"], L4, 1, 0\n', "no index and UUID"),
    ],
)
def test_what_is_no_such_list_is_refused_by_its_line(text: str, said: str) -> None:
    with pytest.raises(BadInventory, match=said):
        read_inventory(text)
