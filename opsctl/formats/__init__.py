"""Formats that opsctl reads and edits itself: JSON text, e-mail addresses, the bounce types of Amazon SES."""
