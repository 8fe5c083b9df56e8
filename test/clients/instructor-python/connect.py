import os

import instructor
from openai import OpenAI

openai = OpenAI(base_url=f"{os.environ['SWITCHYARD_URL']}/v1", api_key=os.environ["SWITCHYARD_API_KEY"])


def client(mode):
    return instructor.from_openai(openai, mode=mode)
