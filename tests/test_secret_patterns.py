"""What looks like a secret in others' text is hidden, other words are left, and looking takes linear time."""

from __future__ import annotations

import re
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from opsctl import secret_patterns
from opsctl.cli import contacts
from opsctl.engine.ledger import personal
from opsctl.redaction import HIDDEN, clean_sentence, clean_text
from opsctl.secret_patterns import mask_secrets

SHOWN = "SUPERSECRET"
SHAPES = """
aws_secret_access_key=SUPERSECRETVALUE/K7MDENG+bPxRfi
AWS_SECRET_ACCESS_KEY: SUPERSECRET
aws_session_token = SUPERSECRET
<SecretAccessKey>SUPERSECRET</SecretAccessKey>
"SecretAccessKey": "SUPERSECRET"
"SessionToken":"SUPERSECRET"
https://hooks.slack.com/services/T0000/B0000/SUPERSECRET
https://discord.com/api/webhooks/123/SUPERSECRET
xoxb-123-456-SUPERSECRET
xoxp-1-SUPERSECRET
xoxe.xoxp-1-SUPERSECRET
xapp-1-A1-123-SUPERSECRET
postgres://bob:SUPERSECRET@db/x
redis://:SUPERSECRET@cache:6379/0
mongodb+srv://u:SUPERSECRET@h
https://SUPERSECRETVALUE1234@o1.ingest.sentry.io/1
Cookie: a=SUPERSECRET; b=SUPERSECRET
Set-Cookie: session=SUPERSECRET; Path=/
"cookie": "a=SUPERSECRET; b=SUPERSECRET"
JSESSIONID=SUPERSECRET
https://b.s3.amazonaws.com/k?X-Amz-Credential=SUPERSECRET%2F2026&X-Amz-Signature=SUPERSECRET
X-Amz-Security-Token=SUPERSECRET
X-Amz-Security-Token: SUPERSECRET
Authorization: AWS4-HMAC-SHA256 Credential=SUPERSECRET/x, SignedHeaders=host, Signature=SUPERSECRET
Authorization: Bearer SUPERSECRET
Authorization: Digest username="b", response="SUPERSECRET"
Proxy-Authorization: Basic SUPERSECRET
{'Authorization': 'Bearer SUPERSECRET'}
it sent Bearer SUPERSECRET to us
it sent Basic SUPERSECRET== to us
password: SUPERSECRET
password=SUPERSECRET
password:SUPERSECRET
"password":"SUPER, 'SECRET' SUPERSECRET"
{\\"password\\":\\"SUPERSECRET SUPERSECRET\\"}
user[password]=SUPERSECRET
password%3DSUPERSECRET
<password>SUPERSECRET</password>
db_pass=SUPERSECRET
PGPASSWORD=SUPERSECRET psql
pwd=SUPERSECRET;
passphrase: SUPERSECRET
host=db user=x password='SUPERSECRET SUPERSECRET' port=5
Server=x;User Id=sa;Password=SUPERSECRET;
ALTER ROLE app PASSWORD 'SUPERSECRET'
ALTER ROLE app PASSWORD E'SUPERSECRET'
ALTER ROLE app PASSWORD E'it\\'s SUPERSECRET'
ALTER ROLE app PASSWORD $$SUPERSECRET$$
ALTER ROLE app PASSWORD $pw$a'SUPERSECRET$pw$
https://hooks.slack-gov.com/services/T0000/B0000/SUPERSECRET
CREATE USER x IDENTIFIED BY 'SUPERSECRET'
machine api login bob password SUPERSECRET
curl -u bob:SUPERSECRET https://x
mysql --password SUPERSECRET
redis-cli -h x -a SUPERSECRET
"AUTH" "default" "SUPERSECRET"
requirepass SUPERSECRET
X-Api-Key: SUPERSECRET
api_key=SUPERSECRET
client_secret=SUPERSECRET
refresh_token=SUPERSECRET
id_token: SUPERSECRET
PRIVATE-TOKEN: SUPERSECRET
X-Vault-Token: SUPERSECRET
x-csrf-token: SUPERSECRET
X-Edge-Auth: SUPERSECRET
AccountKey=SUPERSECRET==;EndpointSuffix=x
?sv=2020&sig=SUPERSECRET
hapikey=SUPERSECRET
//registry.npmjs.org/:_authToken=SUPERSECRET
"auths":{"ghcr.io":{"auth":"SUPERSECRET"}}
DATABASE_URL=postgres://u:SUPERSECRET@h/d
SECRET_KEY_BASE=SUPERSECRET
otp=SUPERSECRET
eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.SUPERSECRET
ghp_SUPERSECRETVALUE1234
github_pat_SUPERSECRETVALUE1234
glpat-SUPERSECRETVALUE
pat-na1-SUPERSECRET-1111
sk_live_SUPERSECRET
rk_live_SUPERSECRET
whsec_SUPERSECRET
SG.SUPERSECRET.SUPERSECRET
AIzaSUPERSECRETVALUE1234567890123456789
npm_SUPERSECRETVALUE1234567890
dckr_pat_SUPERSECRET
sntrys_SUPERSECRET
hvs.SUPERSECRETVALUE12345
1234567890123-SUPERSECRET
minted_token 156855158284 SUPERSECRET
:password=>"SUPERSECRET"
:password => "SUPERSECRET", :host => "x"
{'password': b'SUPERSECRET'}
password=u'SUPERSECRET'
<password type="text">SUPERSECRET</password>
<add key="DbPassword" value="SUPERSECRET"/>
{"name": "JWT_SECRET", "value": "SUPERSECRET"}
{"name":"DB_PASSWORD","value":"it is \\"SUPERSECRET"}
password=''SUPERSECRET''
ALTER ROLE app PASSWORD ''SUPERSECRET''
AUTH default SUPERSECRET
AUTH SUPERSECRET
mysql -u root -pSUPERSECRET db
mysqldump -pSUPERSECRET db
sshpass -p SUPERSECRET ssh x
docker login -u bob -p SUPERSECRET ghcr.io
gpg --batch --passphrase SUPERSECRET
openssl rsa -passin pass:SUPERSECRET
the new token is now SUPERSECRETa1
the password for bob was SUPERSECRETa1
""".strip().splitlines()
KEYS = ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."]
BLOCKS = [
    "-----BEGIN RSA PRIVATE KEY-----\nSUPERSECRET\nSUPERSECRET\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\\nSUPERSECRET\\n-----END PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nSUPERSECRET\n(cut)",
    "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=SUPERSECRET\r\nAccept: y",
]


@pytest.mark.parametrize("text", [*SHAPES, *BLOCKS])
def test_a_shape_is_hidden(text: str) -> None:
    for wrapped in (text, f"it said: {text}", f"{text}\nand more", f"({text})"):
        assert SHOWN not in mask_secrets(wrapped)
        assert HIDDEN in mask_secrets(wrapped)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_hidden_whole(key: str) -> None:
    assert mask_secrets(f"it is {key}") == f"it is {HIDDEN}"


PLAIN = """
arn:aws:secretsmanager:us-east-1:123456789012:secret:safawinet/prod/jwt-AbCdEf
User: arn:aws:iam::123456789012:user/bob is not authorized to perform: secretsmanager:GetSecretValue on resource: arn:aws:x:::secret:y-AbC
Access to KMS is not allowed
version 0a1b2c3d-1111-4222-8333-123456789abc is current
run 261130-182455-ab12cd
sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
123456789012.dkr.ecr.us-east-1.amazonaws.com/api@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
The security token included in the request is expired
ClientRequestToken: 0a1b2c3d-1111-4222-8333-123456789abc
nextToken: abc
the token is invalid
https://host:8080/path?email=a@b.c
https://api.hubapi.com/crm/v3/objects/contacts/156855158284?properties=a,b
arn:aws:ecs:us-east-1:123456789012:task-definition/safawinet-api:42
password authentication failed for user "safawinet"
Basic authentication failed
bearer token is missing
AUTH failed: the user is disabled
ERR AUTH <password> called without any password configured for the default user
the token is 5 minutes old
the secret was rotated 2026-11-30T12:00:00Z
mysql -p db
{"name": "LOG_LEVEL", "value": "debug"}
the next token is 12:00:05.
arn:aws:x:::secret:y-AbC
AWSCURRENT AWSPREVIOUS
permission denied for table refresh_sessions
secret_id=/hh/prod/edge-shared-secret
the secret [secret] is current
tasks: 4 of 5
{"type": "lease_ok", "contactId": "156855158284", "requestId": "12345678-90ab-4def-8123-567890123456"}
2030-01-02T03:04:05Z GET /path=/lease status=403 reason=invalid-token
-----BEGIN CERTIFICATE-----
Session with identifier 7 expired after 15m
""".strip().splitlines()


@pytest.mark.parametrize("text", PLAIN)
def test_other_words_are_left(text: str) -> None:
    assert mask_secrets(text) == text


def repeats(tree: Any) -> list[tuple[Any, int]]:
    """Every repetition that gives back what it took, by the most that it takes."""
    found = []
    for op, value in tree:
        if op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            found.append((op, value[1]))
        for part in value if isinstance(value, tuple | list) else (value,):
            for inner in part if isinstance(part, list) else (part,):
                if isinstance(inner, parser.SubPattern):
                    found += repeats(inner)
    return found


PATTERNS = {f"shapes {number}": pattern for number, pattern in enumerate(secret_patterns._patterns())}


@pytest.mark.parametrize("name", [*PATTERNS, "e-mails", "contacts"])
def test_a_pattern_is_linear_by_construction(name: str) -> None:
    """What it repeats without end it never gives back; what it may give back is short."""
    pattern: re.Pattern[str] = {**PATTERNS, "e-mails": personal.EMAIL, "contacts": contacts.EMAIL}[name]
    assert all(most <= 600 for _, most in repeats(parser.parse(pattern.pattern, pattern.flags)))


UNITS = [
    "eyJ", "eyJaaaaaaaa.", "a", "1", "_", "-", ".", "'", '"', "\\", " ", "[", '{"a":', "password", "password=", 'password="', "a://", "a://a:",
    "-----BEGIN RSA PRIVATE KEY-----",
    "%41\\u0041&amp;", "token ", "1234567890-", "cookie:",
    "a@", "a'", "a@a.", "basic A", '"auth" ',
    "login a password ",
    "AUTH a ", "mysql -p", "mysql a ", "docker login a ", '"name":"token","value":', "token a is ", ":password=>", "<password a=",
    "redis-cli -a ", " -u a", "sk-", "authorization: digest ", "bearer bearer ", "\\u0041 %41 ", "''",
    "&amp;", "\u202e",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_64_kilobytes_of_anything_are_looked_at(unit: str) -> None:
    """A pattern that takes quadratic time would take minutes for each of these."""
    text = (unit * 65_536)[:65_536]
    assert len(clean_text(text)) <= 65_536 * 10
    assert len(clean_sentence(text)) < 600
    personal.hide(text, b"key")
    assert contacts.EMAIL.fullmatch(text) is None


def test_what_is_cut_says_so_and_is_cleaned_before() -> None:
    text = "x" * 495 + " password: SUPERSECRET and more"
    assert "SUPER" not in clean_sentence(text)
    assert clean_sentence(text).endswith("... (cut, of 523 characters).")
    assert clean_text("a" * 3_000, 2_000).endswith("(cut, of 3,000 characters)")
    huge = clean_text("y" * 1_000_000)
    assert len(huge) < 66_000
    assert "of 1,000,000 characters" in huge


def test_what_a_terminal_obeys_is_written_out_and_lines_are_kept() -> None:
    assert clean_text("a\x1b[2J\x9b\u202e\u200b\ud800\r\n\tb") == "a\\x1b[2J\\x9b\\u202e\\u200b\\ud800\\r\n\tb"
