"""What was asked for longest ago is forgotten first."""

from concurrent.futures import ThreadPoolExecutor

from serving.remembering import Remembered


def test_the_last_few() -> None:
    kept: Remembered[str, int] = Remembered(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]
    kept.put("a", 4)
    assert kept.get("a") == 4


def test_from_many_threads() -> None:
    kept: Remembered[int, int] = Remembered(5)

    def use(number: int) -> None:
        for k in range(2000):
            kept.put((number + k) % 9, k)
            kept.get(k % 9)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(4)))
    assert sum(kept.get(k) is not None for k in range(9)) == 5
