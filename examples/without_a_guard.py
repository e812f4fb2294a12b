"""A script without `if __name__ == "__main__":`, which starts fresh interpreters all the same.

Each child runs this file again, to learn what `celsius` is. In the standard library the child would come to `Pool`
and fail, and the pool would start another one, for ever. Here the child's run ends at that line: it has every name
above it.
"""

import manyhands

manyhands.set_start_method("spawn")


def celsius(fahrenheit):
    return round((fahrenheit - 32) / 1.8, 1)


print("in the parent and in each child")

with manyhands.Pool(2) as pool:
    print(pool.map(celsius, [-40, 32, 98.6, 212]))

print("in the parent only")
