"""Sends a file in parts, runs it as a batch with the official Python client, and prints what it saw as one JSON object.

usage: batches_client.py BASE_URL API_KEY MODEL
"""

import hashlib
import json
import sys
import time

import openai

base_url, api_key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
endpoint = "/v1/chat/completions"
lines = [
    json.dumps(
        {
            "custom_id": f"line-{index}",
            "method": "POST",
            "url": endpoint,
            "body": {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": f"Say {index}."}]},
        }
    )
    for index in range(4)
]
content = "\n".join(lines).encode()

upload = client.uploads.create(filename="input.jsonl", purpose="batch", bytes=len(content), mime_type="text/jsonl")
parts = [client.uploads.parts.create(upload.id, data=piece).id for piece in (content[:100], content[100:])]
done = client.uploads.complete(upload.id, part_ids=parts, md5=hashlib.md5(content).hexdigest())
whole = client.files.create(file=("copy.jsonl", content), purpose="batch")

batch = client.batches.create(input_file_id=done.file.id, endpoint=endpoint, completion_window="24h")
until = time.monotonic() + 60
while batch.status not in ("completed", "failed", "expired", "cancelled") and time.monotonic() < until:
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)
answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
print(
    json.dumps(
        {
            "upload": done.status,
            "same": client.files.content(done.file.id).content == client.files.content(whole.id).content == content,
            "listed": whole.id in [file.id for file in client.files.list(purpose="batch")],
            "deleted": client.files.delete(whole.id).deleted,
            "status": batch.status,
            "counts": batch.request_counts.model_dump(),
            "answered": [answer["custom_id"] for answer in answers],
            "statuses": sorted({answer["response"]["status_code"] for answer in answers}),
            "newest": client.batches.list(limit=1).data[0].id == batch.id,
        }
    )
)
