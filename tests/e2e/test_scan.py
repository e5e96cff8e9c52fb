"""Walking all keys of the cache, over as many pages as it takes."""

from __future__ import annotations

from dominus import Dominus


async def test_scan_iter_finds_every_key_of_its_prefix_and_category_and_no_other(dominus_client: Dominus):
    for number in range(620):
        await dominus_client.redis.set(f"job:{number}", number)
    await dominus_client.redis.set("other", 1)
    await dominus_client.redis.set("job:elsewhere", 1, category="c")

    found = {key async for key in dominus_client.redis.scan_iter("job:")}
    assert found == {f"job:{number}" for number in range(620)}
    assert [key async for key in dominus_client.redis.scan_iter(category="c")] == ["job:elsewhere"]
    assert [key async for key in dominus_client.redis.scan_iter("nothing")] == []
