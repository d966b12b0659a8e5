// What each client is asked in the configuration that its own pages show, and how it tells what came of it:
// the twin of ../python/asked.py and ../../helpers/engines/written_text.py.
import assert from "node:assert/strict";
import { z } from "zod";

export const URL = process.env.CLIENTS_URL;
export const [MODEL, KEY] = ["p", "unused"];
export const [HI, QUESTION] = ["Say hello.", "What is the weather?"];
export const [HELLO, REPORT] = ["Hello from the planner.", "It is 21 degrees in Paris."];
export const CITY = { city: "Paris" };
export const LANA = { name: "Lana", age: 7 };
export const Person = z.object({ name: z.string(), age: z.number().int() });
export const City = z.object({ city: z.string() });
export const PLAN = { s3lora: { plan: { tools: [{ name: "Search" }, { name: "LLM" }] } } };
export const weather = ({ city }) => `21 degrees in ${city}`;
export const same = (found, expected) => assert.deepEqual(found, expected);

export async function joined(parts) {
  let text = "";
  for await (const part of parts) text += part;
  return text;
}

// Run the checks, and print a line of JSON: for each "" or what went wrong.
export async function tell(checks) {
  const only = (process.env.CLIENTS_USES ?? "").split(" ").filter(Boolean);
  const told = {};
  for (const [name, check] of Object.entries(checks)) {
    if (only.length && !only.includes(name)) continue;
    try {
      await check();
      told[name] = "";
    } catch (error) {
      told[name] = `${error?.name}: ${error?.message}`.slice(0, 400);
    }
  }
  console.log("\n" + JSON.stringify(told));
  process.exit(0);
}
