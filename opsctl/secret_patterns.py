"""Patterns of text that looks like a secret.

Each takes linear time: a repetition is possessive or bounded, or starts with a character that the repetition before it can't contain.
"""

from __future__ import annotations

import functools
import re

HIDDEN = "[secret]"

QUOTE = r"""\\{0,8}["']"""
WORDS = r"""
    passw(?:or)?d | passphrase | passcode | pwd | secret(?:[_-]?(?:access)?[_-]?key|[_-]?string|[_-]?value)?
    | (?<!request)(?<!request[_-])(?<!next)(?<!next[_-])token
    | (?<![a-z])pass(?![a-z]) | credentials?(?=\s?=)
    | (?:api|access|private|signing|encryption|account|auth|routing|integration|license|master|app|shared[_-]?access|consumer)[_-]?key
    | (?:x[_-])?edge[_-]auth | (?:proxy[_-])?authorization | (?:set[_-])?cookie | x-amz-(?:credential|signature)
    | shared[_-]?access[_-]?signature
    | session[_-]?id | (?:j|php)sess(?:ion)?id | connect\.sid | [cx]srf | hapikey | rediscli_auth | connection[_-]?string
    | webhook[_-]?url
    | pairing[_-]?code | requirepass | masterauth | customer-key | (?<![a-z])(?:pat|otp|dsn|jwt|_auth|auth|creds?|signature|sessid|sid)
"""
# `secret_arn`, `token_type`, `client-request-token` name or describe a secret; they are not secrets.
TELLS = (
    r"[_-]?(?:id|arns?|names?|type|version|count|ttl|expir|len|size|uri|file|path|provider|manager|kind|status|age|policy|mode)(?![a-z])"
)
SCHEME = r"(?:(?:bearer|basic|digest|token|negotiate|apikey|aws4-hmac-sha256)\s{1,8})?"
KEYED = rf"""
    (?P<head>(?<!\w:)(?<!::)(?:{WORDS})(?!{TELLS})(?:[_-][\w-]{{0,24}}|s|\d{{1,3}}|hash)?
      (?:{QUOTE}|\](?==))?(?:\s{{0,8}}(?:=>?|:|%3[ad])\s{{0,8}}|(?:\s[\w:.-]{{1,40}}=["'][^<>]{{0,200}})?>))
    (?:[bruen]{{0,2}}(?P<quote>(?:''|"")(?=[^\s"'&,;)}}\]])|{QUOTE}){SCHEME}(?:(?!(?P=quote))[\s\S])*+
      |{SCHEME}(?:(?![&;,|]\s?[\w.%-]{{1,40}}=|\\[nrt"'])[^\s"'<>])++)
"""
HEADER = r"""
    (?P<line>(?<![\w-])(?:(?:proxy-)?authorization|(?:set-)?cookie2?)\s{0,8}[:=]\s{0,8})(?!\\{0,8}["'])(?:(?!\\[rn]|\\{0,4}"\s{0,4}(?:,\s{0,4}\\{0,4}"|\}))[^\r\n])++
"""
TYPED = r"""
    (?P<option>(?<!\S)--?(?:[a-z]{1,20}-)?(?<!request-)(?:password|passwd|passphrase|token|secret|api-key|secret-key|secret-string|auth-token)\s{1,8})
      (?!-)(?:"[^"]*+"|'[^']*+'|\S++)
    | (?P<pair>["']?(?:name|key)["']?\s{0,4}[:=]\s{0,4}["'][^"'<>]{0,60}
        (?:passw(?:or)?d|secret|token|api_?key|credential|_key|_dsn)[^"'<>]{0,40}["'][,\s]{1,8}
        ["']?value["']?\s{0,4}[:=]\s{0,4})(?:"(?:\\"|[^"])*+"?|'[^']*+'?)
    | (?P<joined>(?<![\w-])(?:mysql(?:dump|admin|import)?|mariadb(?:-dump|-admin)?)\s(?:\S{1,100}\s){0,8}?-p(?!\s))\S++
    | (?P<after>(?<![\w-])(?:sshpass|docker\slogin|podman\slogin|helm\sregistry\slogin|az\slogin)\s
        (?:\S{1,100}\s){0,8}?-p\s{0,4})(?:"[^"]*+"|'[^']*+'|\S++)
    | (?P<openssl>(?<![\w-])pass:)\S++
    | (?P<command>(?-i:(?<![\w-])AUTH))(?:[ \t]{1,8}(?!failed|called|required|error|token|command|method|<)[^\s"'<>()]{1,512}+){1,2}
    | (?P<user>(?<!\S)(?:-u|--user)\s{0,4}["']?[^\s:"']{1,100}:)[^\s"']++
    | (?P<netrc>(?<!\S)login\s{1,8}\S{1,100}\s{1,8}password\s{1,8})\S++
    | (?P<sql>(?<!\w)(?:password|identified\s{1,8}by)\s{1,8}(?:e|n|u&)?)(?:''(?=[^\s'])(?:(?!'')[\s\S])*+|'(?:''|\\'|[^'])*+'?|"[^"]*+"?
        |\$(?P<tag>\w{0,64}+)\$(?:(?!\$(?P=tag)\$)[\s\S])*+)
    | (?P<redis>"auth"|(?<![\w-])(?:requirepass|masterauth))(?:\s{1,8}(?:"[^"]*+"|[^\s"]++)){1,2}
    | (?P<query>[?&;](?:sig|signature|code|key|auth|access|hash|state|nonce)=)[^\s"'&<>]++
    | (?P<scheme>(?<!\w)(?:bearer|token\stoken=)\s{0,8}(?<=[\s=]))(?!token(?!\w)|auth|realm|scope|error)["']?[^\s"'\\,<>]++
    | (?P<basic>(?<!\w)basic\s{1,8})(?!auth|realm)(?-i:(?=[a-z+/]{0,256}[A-Z0-9=]))[\w+/=-]{6,}+
    | (?P<told>passw(?:or)?d\s(?:is|was):?\s{1,8})(?=[^\s\d]{0,64}\d)\S++
    | (?P<prose>(?<!\w)(?:passphrase|secret|token|api[_\s-]key|access[_\s-]key|passw(?:or)?d)(?:\s[a-z]{1,20}){0,3}
        \s(?:is|was)(?:\snow)?:?\s{1,8}["'`]?)
        (?=[^\s"'`]{0,64}\d)(?=[^\s"'`]{0,64}[a-z])(?![^\s]{0,64}(?:[:/]\d|ago))[^\s"'`]{10,}+
    | (?P<cli>redis-cli\s(?:\S{1,100}\s){0,8}?-a\s{1,4})\S++
    | (?P<minted>minted_token\s{1,8}\S{1,64}\s{1,8})\S++
    | (?P<long>[a-z][a-z0-9+.-]{0,30}://)[^\s/@"'<>?\#]{40,512}(?=@)
    | (?P<url>[a-z][a-z0-9+.-]{0,30}://[^\s/:@"'<>?\#]{0,256}:)[^\s/"'<>]{1,512}(?=@)
    | (?P<dsn>[a-z][a-z0-9+.-]{0,30}://)[^\s/:@"'<>?\#]{16,256}(?=@)
    | (?P<hook>hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/|discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/
        |outlook\.office(?:365)?\.com/webhook/|chat\.googleapis\.com/v1/spaces/|api\.telegram\.org/bot|hooks\.zapier\.com/hooks/catch/
        |events\.pagerduty\.com/integration/)[^\s"'<>]++
"""
PREFIXED = r"""
    -----BEGIN\ (?!CERTIFICATE|PUBLIC|RSA\ PUBLIC|X509|NEW\ CERT)[A-Z0-9 ]{1,40}-----(?:(?!-----END)[\s\S])*+(?:-----END[^-]{0,60}-----)?
    | (?<![\w-])eyJ[\w-]{8,}+(?:\.[\w-]*+){0,4}
    | (?<![A-Za-z0-9])(?:
        (?:AKIA|ASIA|ABIA|ACCA|akia|asia)[A-Za-z0-9]{12,}+ | (?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[\w/+=%]*+ | gh[pousr]_\w{16,}+
        | github_pat_\w{16,}+
        | gl(?:pat|dt|rt|cbt|ptt|soat|ft|imt|agent)-[\w-]{10,}+ | pat-[a-z]{2}\d-[\w-]{8,}+ | xox[a-z](?:\.xox[a-z])?-[\w-]{6,}+
        | xapp-[\w-]{8,}+
        | [spr]k_(?:live|test|prod)_\w{8,}+ | whsec_[\w/+=]{8,}+ | sk-[\w-]{16,}+ | SG\.[\w-]{8,}+\.[\w-]{8,}+ | AIza[\w-]{30,}+
        | ya29\.[\w.-]{8,}+
        | GOCSPX-[\w-]{8,}+ | npm_\w{20,}+ | pypi-[\w-]{16,}+ | dckr_(?:pat|oat)_[\w-]{8,}+ | do[opr]_v1_\w{8,}+
        | shp(?:at|ca|pa|ss|ua)_\w{8,}+
        | sq0[a-z]{3}-[\w-]{8,}+ | AT[AC]TT[\w=-]{16,}+ | lin_api_\w{8,}+ | dapi[0-9a-f]{32} | key-[0-9a-f]{32} | [0-9a-f]{32}-us\d{1,2}
        | dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.]{8,}+ | hv[sbr]\.[\w-]{16,}+ | [sbr]\.[A-Za-z0-9]{24}(?!\w) | sntry[a-z]_[\w=/+.-]{8,}+
        | NR(?:AK|II|JS|RA)-[\w-]{8,}+ | gl(?:sa|c)_[\w=]{16,}+ | SK[0-9a-f]{32} | EAA[A-Za-z0-9]{30,}+ | \d{8,10}:AA[\w-]{30,}+
        | sbp_\w{8,}+
        | rubygems_\w{8,}+ | AGE-SECRET-KEY-1\w{8,}+ | hf_\w{20,}+ | figd_[\w-]{8,}+ | PMAK-[\w-]{8,}+ | ntn_\w{8,}+ | CFPAT-[\w-]{8,}+
        | pul-[0-9a-f]{40} | ph[cx]_\w{20,}+ | Atz[ar]\|[\w/+=-]{8,}+ | u\+[\w+-]{18}(?!\w) | r8_\w{20,}+ | \w{14}\.atlasv1\.[\w-]{8,}+
        | secret_[A-Za-z0-9]{32,}+ | fm[12]_[\w/+=,]{16,}+ | tskey-[\w-]{8,}+ | xkeysib-[\w-]{8,}+ | ops_eyJ[\w-]{8,}+
      )
    | (?<![\w.-])\d{9,20}-[\w-]{8,}+
"""
"""Tokens with a known prefix. The last is a pairing code: a contact's id, a hyphen, and the secret."""


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """The patterns, compiled on first use."""
    ignoring = re.IGNORECASE | re.VERBOSE
    return (re.compile(PREFIXED, re.VERBOSE), *(re.compile(each, ignoring) for each in (HEADER, TYPED, KEYED)))


def mask_secrets(text: str) -> str:
    """`text` with everything that looks like a secret replaced; the secret's name stays."""
    for pattern in _patterns():
        text = pattern.sub(_hidden, text)
    return text


def _hidden(found: re.Match[str]) -> str:
    named = found.groupdict()
    quote = named.pop("quote", None) or ""
    named.pop("tag", None)
    return f"{next((head for head in named.values() if head), '')}{quote}{HIDDEN}"
