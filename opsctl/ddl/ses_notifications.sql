-- What `opsctl bounces` needs in the application's database. Run it once, as the owner of `users`; running it again changes nothing.
-- opsctl never makes any of this by itself.

-- Where an address stands: 'ok', 'bounced' or 'complained'; and how often mail to it came back for the time being.
ALTER TABLE users ADD COLUMN IF NOT EXISTS email_status text NOT NULL DEFAULT 'ok';
ALTER TABLE users ADD COLUMN IF NOT EXISTS bounce_count integer NOT NULL DEFAULT 0;

-- Addresses are compared without regard to case. On a large table make this one by itself, with CREATE INDEX CONCURRENTLY.
CREATE INDEX IF NOT EXISTS users_lower_email ON users (lower(email));

-- A row for each notification and recipient that has been counted: a second copy of the notification meets it, and is not counted.
CREATE TABLE IF NOT EXISTS ses_notifications (
    feedback_id text NOT NULL,      -- SES's own id of the bounce or the complaint
    recipient text NOT NULL,        -- the address in lower case, its domain as in DNS (xn--...)
    domain text NOT NULL,           -- the part after the @
    kind text NOT NULL CHECK (kind IN ('bounce', 'complaint')),
    type text NOT NULL,             -- Permanent, Transient, Undetermined; of a complaint the feedback type, as abuse
    subtype text NOT NULL,          -- General, NoEmail, Suppressed, MailboxFull ...; Manual for a mark by hand;
                                    -- NoFailure where no delivery report says that it failed, as of an out-of-office answer
    at timestamptz NOT NULL,        -- when it happened, as SES says
    counted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feedback_id, recipient)
);
CREATE INDEX IF NOT EXISTS ses_notifications_at ON ses_notifications (at);
CREATE INDEX IF NOT EXISTS ses_notifications_recipient ON ses_notifications (recipient);
