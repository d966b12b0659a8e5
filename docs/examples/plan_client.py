"""The shortest way to a plan: .venv/bin/python docs/examples/plan_client.py "Who directed Inception?" """

import sys

from planners.client import PlannerClient

# The address is S3LORA_BASE_URL, else http://127.0.0.1:8000; the key, if the server has one, S3LORA_API_KEY.
with PlannerClient(planner="hotpot-planner") as client:
    plan = client.plan(sys.argv[1], tools=["Search", "LLM"], max_steps=6)

for number, steps in enumerate(plan.levels(), start=1):
    for step in steps:
        print(f"level {number}: {step.id} = {step.tool}[{step.tool_input}]")
print(f"revision {plan.meta.revision[:12]}, {plan.meta.usage.output_tokens} tokens")
