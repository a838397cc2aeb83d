"""The bounce and complaint types of Amazon SES, and their effect on a user (SES Developer Guide, "Amazon SES notification contents")."""

from __future__ import annotations

from typing import Literal

Kind = Literal["bounce", "complaint"]
Effect = Literal["bounced", "complained", "soft", "none"]

BOUNCES: dict[str, Effect] = {
    "Permanent/General": "bounced",
    "Permanent/NoEmail": "bounced",
    "Permanent/Suppressed": "bounced",
    "Permanent/OnAccountSuppressionList": "bounced",
    "Permanent/OnTenantSuppressionList": "bounced",
    "Permanent/EmailValidationSuppressed": "none",
    "Permanent/UnsubscribedRecipient": "none",
    "Transient/General": "soft",
    "Transient/MailboxFull": "soft",
    "Transient/MessageTooLarge": "soft",
    "Transient/CustomTimeoutExceeded": "soft",
    "Transient/ContentRejected": "soft",
    "Transient/AttachmentRejected": "soft",
    "Undetermined/Undetermined": "soft",
}
"""The effect of each bounce type on a user; unknown types go to the dead-letter file."""
FAILURES: tuple[str, ...] = (
    "Permanent/General",
    "Permanent/NoEmail",
    "Permanent/Suppressed",
    "Permanent/Manual",
    "Transient/General",
    "Transient/MailboxFull",
    "Transient/Manual",
    "Undetermined/Undetermined",
)
"""The bounces of undeliverable addresses, the only ones that count towards deactivation."""
BY_REPORT = frozenset({"Transient/General", "Undetermined/Undetermined"})
"""Bounces that are a failure only with a delivery report (`action` is failed)."""
NO_FAILURE = "NoFailure"
"""The subtype of such a bounce without a delivery report, which counts for no user."""
NOT_SENT = frozenset({"OnAccountSuppressionList", "OnTenantSuppressionList"})
"""Subtypes of complaints without a complainant: SES didn't send the mail because of an earlier one."""
NO_COMPLAINT = frozenset({"not-spam", "auth-failure"})
"""Feedback types that are no complaint (IANA, Messaging Abuse Reporting Format parameters)."""
SUBTYPES = {"permanent": "General", "transient": "General", "undetermined": "Undetermined"}
"""The default subtype of a bounce."""
