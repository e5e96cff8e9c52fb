"""What of a navigation is seen, and which pages open: a table of rules, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dominus.orchestrator.services.portal.access import Bounds, Item, Page, Viewer, judge, visible

ADA = Viewer("hill", "schools", {"articles:read"}, {"editor"}, {"teachers"})
PAGE = Page("p1", "/articles")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "allowed"),
        ({"is_active": False}, "unknown_page"),
        ({"show_in_nav": False}, "allowed"),
        ({"bounds": Bounds(tenants={"hill", "dale"})}, "allowed"),
        ({"bounds": Bounds(categories={"schools"})}, "allowed"),
        ({"bounds": Bounds(tenants={"dale"}, categories={"schools"})}, "allowed"),
        ({"bounds": Bounds(tenants={"dale"})}, "unknown_page"),
        ({"bounds": Bounds(categories={"shops"})}, "unknown_page"),
        ({"bounds": Bounds(scopes={"articles:read", "articles:write"})}, "allowed"),
        ({"bounds": Bounds(scopes={"articles:write"})}, "missing_scope"),
        ({"excluded_scopes": {"articles:read"}}, "excluded"),
        ({"excluded_roles": {"editor"}}, "excluded"),
        ({"excluded_roles": {"reader"}, "excluded_scopes": {"x"}}, "allowed"),
        ({"bounds": Bounds(scopes={"articles:write"}), "excluded_roles": {"editor"}}, "excluded"),
        # Of another tenant's page nothing is told, not even that it excludes.
        ({"bounds": Bounds(tenants={"dale"}), "excluded_roles": {"editor"}}, "unknown_page"),
    ],
)
def test_a_page_opens_or_says_why_not(changes: dict[str, Any], reason: str) -> None:
    assert judge(replace(PAGE, **changes), ADA) == reason


def test_a_page_that_is_none_is_unknown() -> None:
    assert judge(None, ADA) == "unknown_page"


def test_who_has_no_tenant_sees_what_is_of_none() -> None:
    nobody = replace(ADA, tenant_id=None, category_id=None)
    assert judge(PAGE, nobody) == "allowed"
    assert (
        judge(replace(PAGE, bounds=Bounds(tenants={"hill"}, categories={"schools"})), nobody)
        == "unknown_page"
    )


def titles(items: list[Item], viewer: Viewer = ADA, pages: list[Page] | None = None) -> Any:
    def of(nodes: Any) -> Any:
        return [
            {node["title"]: of(node["children"])} if node["children"] else node["title"] for node in nodes
        ]

    return of(visible(items, {page.id: page for page in pages or []}, viewer))


@pytest.mark.parametrize(
    ("changes", "is_seen"),
    [
        ({}, True),
        ({"is_active": False}, False),
        ({"bounds": Bounds(tenants={"dale"})}, False),
        ({"bounds": Bounds(categories={"schools"})}, True),
        ({"bounds": Bounds(roles={"editor", "chief"})}, True),
        ({"bounds": Bounds(roles={"chief"})}, False),
        ({"bounds": Bounds(subtypes={"pupils"})}, False),
        ({"bounds": Bounds(subtypes={"teachers"}, scopes={"articles:read"})}, True),
        ({"bounds": Bounds(subtypes={"teachers"}, scopes={"articles:write"})}, False),
        ({"page_id": "p1"}, True),
        ({"page_id": "hidden"}, False),
        ({"page_id": "closed"}, False),
        ({"page_id": "gone"}, False),
    ],
)
def test_an_item_is_seen_or_not(changes: dict[str, Any], is_seen: bool) -> None:
    pages = [
        PAGE,
        replace(PAGE, id="hidden", show_in_nav=False),
        replace(PAGE, id="closed", bounds=Bounds(scopes={"x"})),
    ]
    assert titles([replace(Item("n1", "Articles"), **changes)], pages=pages) == (
        ["Articles"] if is_seen else []
    )


def test_items_are_sorted_below_their_parents_and_go_with_them() -> None:
    items = [
        Item("c", "Third", sort_order=2),
        Item("a", "First", sort_order=1),
        Item("b", "Below", parent_id="a"),
        Item("d", "Unseen", is_active=False),
        Item("e", "Below the unseen", parent_id="d"),
    ]
    assert titles(items) == [{"First": ["Below"]}, "Third"]


def test_a_group_is_shown_with_its_entries_only() -> None:
    group = Item("g", "Writing", item_type="group_label")
    inside = Item("i", "Drafts", parent_id="g", bounds=Bounds(roles={"editor"}))
    assert titles([group, inside]) == [{"Writing": ["Drafts"]}]
    assert titles([group, inside], replace(ADA, roles=set())) == []
    assert titles([Item("h", "Just a header", item_type="header")]) == ["Just a header"]


def test_items_in_a_circle_are_left_out() -> None:
    assert titles([Item("a", "A", parent_id="b"), Item("b", "B", parent_id="a"), Item("c", "C")]) == ["C"]


def test_a_node_shows_the_path_of_its_page() -> None:
    (node,) = visible([Item("n1", "Articles", page_id="p1")], {"p1": PAGE}, ADA)
    assert (node["path"], node["page_id"], node["children"]) == ("/articles", "p1", [])
