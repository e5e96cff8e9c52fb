"""dominus.courier: mails from templates, in an outbox that loses none."""
# Over 350 lines, of which most are documentation: a method for each of fifteen calls.

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from dominus.contract import courier as contract
from dominus.contract.values import wire_value
from dominus.hints import iterator
from dominus.namespaces.base import Namespace, as_list

__all__ = ["Courier"]


class Courier(Namespace):
    """Mails from templates. An accepted mail is in the outbox, and is sent from there until a relay takes it.

    An address is `ada@example.com` or `Ada Lovelace <ada@example.com>`; `to` takes several, as a list or with commas.
    """

    async def send(
        self,
        template_alias: str,
        to: str | Sequence[str],
        from_email: str,
        model: Mapping[str, Any],
        tag: str | None = None,
        reply_to: str | Sequence[str] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> contract.Submitted:
        """Accept a mail, made from a template; it is sent soon after.

        Args:
            template_alias: a stored template, or `welcome`, `password-reset`, `email-verification`, `invitation`.
            to: up to 50 addresses.
            from_email: one address; the server may allow certain ones only.
            model: what the template names, JSON values, up to 256 KiB.
            tag: a word to find mails by, up to 256 characters.
            reply_to: where answers go.
            idempotency_key: the same key again is the same mail, and nothing new is sent.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such template (code `template_not_found`).
            ValidationError: the model lacks a value (code `model_key_missing`, which names it), an address is none, or
                a header would hold a line break.
            AuthorizationError: mails may not be from this address (code `sender_not_allowed`).
            ConflictError: the key belongs to another mail (code `mail_key_reused`).

        Example:
            ```python
            sent = await dominus.courier.send(
                "welcome", "ada@example.com", "hello@example.org", {"name": "Ada", "product_name": "Engine"}
            )
            print(sent["message_id"])
            ```
        """
        fields: dict[str, Any] = {
            "template_alias": template_alias,
            "to": to,
            "from_email": from_email,
            "model": wire_value(dict(model)),
            "tag": tag,
            "reply_to": reply_to,
            "idempotency_key": idempotency_key,
        }
        return await self._ask(contract.SEND, timeout, **fields)

    async def send_welcome(
        self,
        to: str | Sequence[str],
        from_email: str,
        name: str,
        product_name: str,
        action_url: str | None = None,
        *,
        timeout: float | None = None,
        **extra_model: Any,
    ) -> contract.Submitted:
        """Send the template `welcome`.

        Args:
            to: up to 50 addresses.
            from_email: one address.
            name: how the mail greets.
            product_name: of what.
            action_url: where to begin; the link is left out without it.
            timeout: seconds for the whole call; the client's without it.
            **extra_model: more values for a template of your own with this alias.

        Example:
            ```python
            await dominus.courier.send_welcome("ada@example.com", "hello@example.org", "Ada", "Engine")
            ```
        """
        model = {"name": name, "product_name": product_name, **extra_model}
        if action_url:
            model["action_url"] = action_url
        return await self.send("welcome", to, from_email, model, "welcome", timeout=timeout)

    async def send_password_reset(
        self,
        to: str | Sequence[str],
        from_email: str,
        name: str,
        reset_url: str,
        product_name: str,
        *,
        timeout: float | None = None,
        **extra_model: Any,
    ) -> contract.Submitted:
        """Send the template `password-reset`.

        Args:
            to: up to 50 addresses.
            from_email: one address.
            name: how the mail greets.
            reset_url: the link; `action_url` in the template.
            product_name: of what.
            timeout: seconds for the whole call; the client's without it.
            **extra_model: more values for a template of your own with this alias.

        Example:
            ```python
            await dominus.courier.send_password_reset(
                "ada@example.com", "hello@example.org", "Ada", "https://example.org/reset/1", "Engine"
            )
            ```
        """
        model = {"name": name, "action_url": reset_url, "product_name": product_name, **extra_model}
        return await self.send("password-reset", to, from_email, model, "password-reset", timeout=timeout)

    async def send_email_verification(
        self,
        to: str | Sequence[str],
        from_email: str,
        name: str,
        verify_url: str,
        product_name: str,
        *,
        timeout: float | None = None,
        **extra_model: Any,
    ) -> contract.Submitted:
        """Send the template `email-verification`.

        Args:
            to: up to 50 addresses.
            from_email: one address.
            name: how the mail greets.
            verify_url: the link; `action_url` in the template.
            product_name: of what.
            timeout: seconds for the whole call; the client's without it.
            **extra_model: more values for a template of your own with this alias.

        Example:
            ```python
            await dominus.courier.send_email_verification(
                "ada@example.com", "hello@example.org", "Ada", "https://example.org/verify/1", "Engine"
            )
            ```
        """
        model = {"name": name, "action_url": verify_url, "product_name": product_name, **extra_model}
        return await self.send(
            "email-verification", to, from_email, model, "email-verification", timeout=timeout
        )

    async def send_invitation(
        self,
        to: str | Sequence[str],
        from_email: str,
        name: str,
        invite_url: str,
        inviter_name: str,
        product_name: str,
        *,
        timeout: float | None = None,
        **extra_model: Any,
    ) -> contract.Submitted:
        """Send the template `invitation`.

        Args:
            to: up to 50 addresses.
            from_email: one address.
            name: how the mail greets.
            invite_url: the link; `action_url` in the template.
            inviter_name: who invites.
            product_name: to what.
            timeout: seconds for the whole call; the client's without it.
            **extra_model: more values for a template of your own with this alias.

        Example:
            ```python
            await dominus.courier.send_invitation(
                "ada@example.com", "hello@example.org", "Ada", "https://example.org/join/1", "Charles", "Engine"
            )
            ```
        """
        model = {
            "name": name,
            "action_url": invite_url,
            "inviter_name": inviter_name,
            "product_name": product_name,
            **extra_model,
        }
        return await self.send("invitation", to, from_email, model, "invitation", timeout=timeout)

    async def outbox(
        self,
        status: contract.Status | None = None,
        *,
        to: str | None = None,
        tag: str | None = None,
        template_alias: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> contract.OutboxPage:
        """Return a page of mails, the newest first: `{"items", "cursor"}`.

        Args:
            status: `queued`, `sending`, `uncertain`, `sent`, `dead`, or `kept` where no relay is set up.
            to: an address among the recipients.
            tag: theirs.
            template_alias: theirs.
            limit: 1 to 500 mails.
            cursor: that of the page before.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            page = await dominus.courier.outbox(to="ada@example.com", limit=10)
            links = [mail["model"].get("action_url") for mail in page["items"]]
            ```
        """
        fields = {"status": status, "to": to, "tag": tag, "template_alias": template_alias, "cursor": cursor}
        return await self._ask(contract.OUTBOX, timeout, limit=limit, **fields)

    @iterator
    async def iterate(
        self, status: contract.Status | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[contract.OutboxItem]:
        """Walk over all mails, the newest first.

        Args:
            status: theirs; any without it.
            timeout: seconds for each page; the client's without it.

        Example:
            ```python
            async for mail in dominus.courier.iterate("dead"):
                print(mail["to"], mail["error"])
            ```
        """
        cursor: str | None = None
        while True:
            page = await self.outbox(status, limit=contract.MAX_PAGE, cursor=cursor, timeout=timeout)
            for mail in page["items"]:
                yield mail
            cursor = page["cursor"]
            if cursor is None:
                return

    async def message(self, message_id: str, *, timeout: float | None = None) -> contract.OutboxMessage:
        """Return a mail with its `html` and `text`, as it was rendered when it was accepted.

        Args:
            message_id: what `send` returned.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none of this id.

        Example:
            ```python
            sent = await dominus.courier.send_welcome("ada@example.com", "hello@example.org", "Ada", "Engine")
            mail = await dominus.courier.message(sent["message_id"])
            print(mail["status"], mail["text"])
            ```
        """
        return await self._ask(contract.MESSAGE, timeout, message_id=message_id)

    async def retry(
        self,
        message_ids: Sequence[str] | None = None,
        *,
        all_dead: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Queue mails again that were given up, or kept while there was no relay; return how many.

        Args:
            message_ids: 1 to 100 ids; all of them are queued, or none.
            all_dead: all that are dead, instead.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: one does not exist.
            ConflictError: one is neither dead nor kept (code `wrong_state`), or the server has no relay (`no_relay`).

        Example:
            ```py
            print(await dominus.courier.retry(all_dead=True))
            ```
        """
        ids = None if message_ids is None else as_list(message_ids, "message_ids")
        answer = await self._ask(contract.RETRY, timeout, message_ids=ids, all_dead=all_dead or None)
        return answer["retried"]

    async def list_templates(self, *, timeout: float | None = None) -> builtins.list[contract.TemplateInfo]:
        """List templates by alias, the built-in ones (version 0) included, without their parts.

        Args:
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            print([template["alias"] for template in await dominus.courier.list_templates()])
            ```
        """
        return (await self._ask(contract.LIST_TEMPLATES, timeout))["templates"]

    async def get_template(
        self, alias: str, *, version: int | None = None, timeout: float | None = None
    ) -> contract.Template:
        """Return a template with its parts.

        Args:
            alias: its name.
            version: an older one; 0 is the built-in one, the newest without it.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none (code `template_not_found`).

        Example:
            ```python
            template = await dominus.courier.get_template("welcome")
            print(template["subject"])
            ```
        """
        return await self._ask(contract.GET_TEMPLATE, timeout, alias=alias, version=version)

    async def put_template(
        self,
        alias: str,
        subject: str,
        html: str | None = None,
        text: str | None = None,
        *,
        comment: str | None = None,
        timeout: float | None = None,
    ) -> contract.TemplateStored:
        """Store a new version of a template; mails use it from now on.

        Args:
            alias: 1 to 128 letters, digits, `.`, `_`, `-`; that of a built-in one replaces it.
            subject: up to 1,000 characters.
            html: up to 262,144 characters; `{{name}}` is escaped in it.
            text: the same as plain text. One of both has to be there.
            comment: up to 1,000 characters.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            ValidationError: a part is no template (code `invalid_template`); the message says where.

        Example:
            ```python
            stored = await dominus.courier.put_template("receipt", "Receipt {{number}}", text="You paid {{total}}.")
            print(stored["version"])
            ```
        """
        return await self._ask(
            contract.PUT_TEMPLATE,
            timeout,
            alias=alias,
            subject=subject,
            html=html,
            text=text,
            comment=comment,
        )

    async def template_versions(
        self, alias: str, *, timeout: float | None = None
    ) -> builtins.list[contract.TemplateInfo]:
        """List the versions of a template, newest first, without their parts.

        Args:
            alias: its name.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is none (code `template_not_found`).

        Example:
            ```python
            newest, *older = await dominus.courier.template_versions("welcome")
            ```
        """
        return (await self._ask(contract.TEMPLATE_VERSIONS, timeout, alias=alias))["templates"]

    async def delete_template(self, alias: str, *, timeout: float | None = None) -> bool:
        """Delete a template of your own with all its versions; false when there was none.

        Args:
            alias: its name; a built-in one of that name is used again.
            timeout: seconds for the whole call; the client's without it.

        Example:
            ```python
            await dominus.courier.put_template("old", "Hello", text="Hello")
            assert await dominus.courier.delete_template("old")
            ```
        """
        return (await self._ask(contract.DELETE_TEMPLATE, timeout, alias=alias))["deleted"]

    async def preview(
        self,
        model: Mapping[str, Any],
        template_alias: str | None = None,
        *,
        version: int | None = None,
        subject: str | None = None,
        html: str | None = None,
        text: str | None = None,
        timeout: float | None = None,
    ) -> contract.Preview:
        """Render a stored template, or one in hand, without sending anything: `{"subject", "html", "text"}`.

        Args:
            model: what the template names.
            template_alias: a stored or built-in template.
            version: of it; the newest without it.
            subject: of a template in hand, instead of `template_alias`.
            html: likewise.
            text: likewise.
            timeout: seconds for the whole call; the client's without it.

        Raises:
            NotFoundError: there is no such template.
            ValidationError: the model lacks a value, or the template is none.

        Example:
            ```python
            shown = await dominus.courier.preview({"name": "Ada"}, subject="Hello {{name}}", text="{{name}}!")
            assert shown["text"] == "Ada!"
            ```
        """
        fields = {"template_alias": template_alias, "version": version, "subject": subject}
        return await self._ask(
            contract.PREVIEW, timeout, model=wire_value(dict(model)), html=html, text=text, **fields
        )
