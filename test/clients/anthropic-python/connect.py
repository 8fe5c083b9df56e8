import os

from anthropic import Anthropic

client = Anthropic(base_url=os.environ["SWITCHYARD_URL"], api_key=os.environ["SWITCHYARD_API_KEY"])
