"""The queue that a new world begins with."""

from __future__ import annotations

import json
from collections import Counter

from stand_in import Aws

from opsctl.sandbox.aws import notifications
from opsctl.sandbox.aws.sns_signing import Signer, new_key


def test_a_few_dozen_wait_some_twice_and_one_broken(aws: Aws) -> None:
    client = aws.client("sqs")
    url = client.get_queue_url(QueueName=notifications.QUEUE)["QueueUrl"]
    bodies = []
    while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [each["Body"] for each in found]
    assert Counter(Counter(bodies).values()) == {1: 24, 2: 1, 3: 1}
    kinds: Counter[str] = Counter()
    for body in bodies:
        try:
            told = json.loads(body)
        except ValueError:
            kinds["broken"] += 1
            continue
        inner = json.loads(told["Message"]) if "Message" in told else told
        kinds[inner.get("notificationType") or inner["eventType"]] += 1
    assert kinds == {"Bounce": 19, "Complaint": 7, "Delivery": 2, "broken": 1}


def test_the_same_moment_gives_the_same_messages() -> None:
    signer = Signer(new_key(), "http://127.0.0.1:1")
    assert notifications.messages(1_780_000_000, signer) == notifications.messages(1_780_000_000, signer)
