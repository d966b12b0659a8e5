// The openai package.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { CITY, HELLO, HI, KEY, LANA, MODEL, PLAN, Person, QUESTION, REPORT, URL, same, tell, weather } from "./asked.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
const ask = { model: MODEL, messages: [{ role: "user", content: HI }] };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const fn = { name: "get_weather", parameters };

await tell({
  async chat() {
    same((await client.chat.completions.create(ask)).choices[0].message.content, HELLO);
  },
  async stream() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      text += chunk.choices[0].delta.content ?? "";
    }
    same(text, HELLO);
  },
  async tools() {
    const tools = [{ type: "function", function: fn }];
    const answer = await client.chat.completions.create({ ...ask, tools, tool_choice: "required" });
    same(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), CITY);
  },
  async structured() {
    const response_format = zodResponseFormat(Person, "person");
    same((await client.chat.completions.parse({ ...ask, response_format })).choices[0].message.parsed, LANA);
  },
  async responses() {
    same((await client.responses.create({ model: MODEL, input: HI })).output_text, HELLO);
    const text = { format: zodTextFormat(Person, "person") };
    same((await client.responses.parse({ model: MODEL, input: HI, text })).output_parsed, LANA);
    same((await client.responses.stream({ model: MODEL, input: HI }).finalResponse()).output_text, HELLO);
    const [tools, input] = [[{ type: "function", ...fn }], [{ role: "user", content: QUESTION }]];
    const [call] = (await client.responses.create({ model: MODEL, input, tools })).output;
    const result = { type: "function_call_output", call_id: call.call_id, output: weather(CITY) };
    same((await client.responses.create({ model: MODEL, input: [...input, call, result], tools })).output_text, REPORT);
  },
  async plans() {
    const answer = await client.chat.completions.create({ ...ask, ...PLAN });
    same(answer.s3lora.plan.steps[0].tool, "Search");
  },
});
