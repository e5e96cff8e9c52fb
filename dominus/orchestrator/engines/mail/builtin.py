"""The templates that are there from the start, as data. One of your own with the same alias replaces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BUILT_IN", "Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a template consists of."""

    subject: str
    html: str | None
    text: str | None


def _page(*blocks: str) -> str:
    body = "\n".join(blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"></head>\n'
        '<body style="font-family: sans-serif; line-height: 1.5; color: #222; max-width: 36em; margin: 2em auto">\n'
        f"{body}\n</body>\n</html>\n"
    )


def _button(label: str) -> str:
    return (
        '<p><a href="{{action_url}}" style="display: inline-block; padding: 0.6em 1.2em; background: #222; '
        f'color: #fff; text-decoration: none; border-radius: 4px">{label}</a></p>\n'
        '<p style="font-size: 0.85em">Or open this address: {{action_url}}</p>'
    )


BUILT_IN: Mapping[str, Parts] = {
    "welcome": Parts(
        subject="Welcome to {{product_name}}",
        html=_page(
            "<p>Hello {{name}},</p>",
            "<p>welcome to {{product_name}}. It is good to have you.</p>",
            # The value of a section that is a text is `.`, too; names are those of the model all the same.
            "{{#action_url}}" + _button("Get started") + "{{/action_url}}",
        ),
        text=(
            "Hello {{name}},\n\nwelcome to {{product_name}}. It is good to have you.\n"
            "{{#action_url}}\nGet started: {{action_url}}\n{{/action_url}}"
        ),
    ),
    "password-reset": Parts(
        subject="Reset your password for {{product_name}}",
        html=_page(
            "<p>Hello {{name}},</p>",
            "<p>somebody asked to reset your password for {{product_name}}. With this link you choose a new one:</p>",
            _button("Reset your password"),
            "<p>If it was not you, you need not do anything: your password stays as it is.</p>",
        ),
        text=(
            "Hello {{name}},\n\nsomebody asked to reset your password for {{product_name}}. "
            "With this link you choose a new one:\n\n{{action_url}}\n\n"
            "If it was not you, you need not do anything: your password stays as it is.\n"
        ),
    ),
    "email-verification": Parts(
        subject="Confirm your address for {{product_name}}",
        html=_page(
            "<p>Hello {{name}},</p>",
            "<p>please confirm that this address is yours, to use it with {{product_name}}:</p>",
            _button("Confirm your address"),
            "<p>If you do not know {{product_name}}, please ignore this mail.</p>",
        ),
        text=(
            "Hello {{name}},\n\nplease confirm that this address is yours, to use it with {{product_name}}:\n\n"
            "{{action_url}}\n\nIf you do not know {{product_name}}, please ignore this mail.\n"
        ),
    ),
    "registration-notice": Parts(
        subject="Your registration with {{product_name}}",
        html=_page(
            "<p>Hello {{name}},</p>",
            "<p>somebody registered with {{product_name}} under this address and the name {{name}}.</p>",
            "{{#has_account}}<p>There is an account with this address already: please log in, or ask for a new "
            "password.</p>{{/has_account}}"
            "{{^has_account}}<p>The name is taken: please choose another one.</p>{{/has_account}}",
            _button("Go there"),
            "<p>If it was not you, you need not do anything.</p>",
        ),
        text=(
            "Hello {{name}},\n\nsomebody registered with {{product_name}} under this address and the name {{name}}.\n"
            "{{#has_account}}\nThere is an account with this address already: please log in, or ask for a new "
            "password.\n{{/has_account}}"
            "{{^has_account}}\nThe name is taken: please choose another one.\n{{/has_account}}"
            "\n{{action_url}}\n\nIf it was not you, you need not do anything.\n"
        ),
    ),
    "invitation": Parts(
        subject="{{inviter_name}} invites you to {{product_name}}",
        html=_page(
            "<p>Hello {{name}},</p>",
            "<p>{{inviter_name}} invites you to {{product_name}}.</p>",
            _button("Accept the invitation"),
        ),
        text=(
            "Hello {{name}},\n\n{{inviter_name}} invites you to {{product_name}}.\n\n"
            "Accept the invitation: {{action_url}}\n"
        ),
    ),
}
