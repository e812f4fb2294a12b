"""What is passed to every call by `odd_arguments.py`: values of odd kinds, by name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

try:
    import numpy
except ImportError:  # of another interpreter, by hand
    numpy = None  # type: ignore[assignment]


class OnlyIndex:
    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


class OnlyFloat:
    def __float__(self) -> float:
        return 0.01


class OnlyBool:
    def __init__(self, truth: bool) -> None:
        self.truth = truth

    def __bool__(self) -> bool:
        return self.truth


class Raises:
    def __bool__(self) -> bool:
        raise KeyError("truth")

    def __float__(self) -> float:
        raise KeyError("float")

    def __index__(self) -> int:
        raise KeyError("index")


class Added:
    """Can be added to a time and compared with it, and is no number."""

    def __radd__(self, other: float) -> float:
        return other

    def __le__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return False


def with_numpy(made: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    return {name: make() for name, make in made.items()} if numpy is not None else {}


def odd() -> dict[str, Any]:
    """By name, what is passed; nothing that has somebody wait for longer than a moment."""
    return with_numpy(
        {
            "numpy.int64(0)": lambda: numpy.int64(0),
            "numpy.float64(.01)": lambda: numpy.float64(0.01),
            "numpy.float32(.01)": lambda: numpy.float32(0.01),
            "numpy.bool_(False)": lambda: numpy.bool_(False),
            "array": lambda: numpy.array([1, 2]),
            "array of one": lambda: numpy.array([0]),
            "array without dimensions": lambda: numpy.array(0),
        }
    ) | {
        "0": 0,
        "-1": -1,
        "False": False,
        "0.0": 0.0,
        "-0.0": -0.0,
        "Decimal('NaN')": Decimal("NaN"),
        "-0.5": -0.5,
        "0.01": 0.01,
        "-inf": float("-inf"),
        "nan": float("nan"),
        "-huge": -(10**30),
        "Fraction(1, 100)": Fraction(1, 100),
        "Fraction(-1)": Fraction(-1),
        "Decimal('.01')": Decimal("0.01"),
        "Decimal(-1)": Decimal(-1),
        "index 0": OnlyIndex(0),
        "float": OnlyFloat(),
        "true": OnlyBool(True),
        "false": OnlyBool(False),
        "raises": Raises(),
        "added": Added(),
        "empty text": "",
        "text": "1",
        "bytes": b"1",
        "empty list": [],
        "list": [1],
        "dict": {},
        "complex": 1j,
        "object": object(),
        "class": int,
        "Ellipsis": ...,
    }


def more() -> dict[str, Any]:
    """What may be a long time, or a large number: for calls that do not wait."""
    return with_numpy(
        {
            "numpy.int64(2)": lambda: numpy.int64(2),
            "numpy.uint8(1)": lambda: numpy.uint8(1),
            "numpy.float64(2)": lambda: numpy.float64(2),
            "numpy.bool_(True)": lambda: numpy.bool_(True),
        }
    ) | {
        "1": 1,
        "2": 2,
        "5": 5,
        "True": True,
        "None": None,
        "1.0": 1.0,
        "2.0": 2.0,
        "1.5": 1.5,
        "inf": float("inf"),
        "1e30": 1e30,
        "2**31": 2**31,
        "2**40": 2**40,
        "huge": 10**30,
        "beyond float": 10**400,
        "Fraction(2)": Fraction(2),
        "Decimal(2)": Decimal(2),
        "index 2": OnlyIndex(2),
    }


def long() -> dict[str, Any]:
    """What is a long time: for calls whose end comes soon."""
    return with_numpy(
        {
            "numpy.int64(2**40)": lambda: numpy.int64(2**40),
            "numpy.float64(60)": lambda: numpy.float64(60),
            "numpy.float32(60)": lambda: numpy.float32(60),
            "numpy.float64(inf)": lambda: numpy.float64("inf"),
        }
    ) | {
        "60": 60,
        "60.0": 60.0,
        "2**31": 2**31,
        "2**62": 2**62,
        "2**64": 2**64,
        "2**70": 2**70,
        "1e10": 1e10,
        "1e18": 1e18,
        "1e19": 1e19,
        "1e300": 1e300,
        "inf": float("inf"),
        "beyond float": 10**400,
        "Fraction(60)": Fraction(60),
        "Decimal(60)": Decimal(60),
        "index 60": OnlyIndex(60),
    }
