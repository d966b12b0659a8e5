// The OpenAI Agents SDK for JavaScript: Responses unless told otherwise.
import { Agent, OpenAIChatCompletionsModel, run, setDefaultOpenAIClient, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";
import { City, HELLO, HI, KEY, LANA, MODEL, Person, QUESTION, REPORT, URL, joined, same, tell, weather } from "./asked.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
setDefaultOpenAIClient(client);
setTracingDisabled(true);
const tools = [tool({ name: "get_weather", description: "The weather of a city.", parameters: City, execute: weather })];
const chats = new OpenAIChatCompletionsModel(client, MODEL);
const said = async (options, text = HI) => (await run(new Agent({ name: "a", ...options }), text)).finalOutput;
const streamed = async (model) => joined((await run(new Agent({ name: "a", model }), HI, { stream: true })).toTextStream());
const required = { tools, modelSettings: { toolChoice: "required" } };

await tell({
  async chat() {
    same(await said({ model: chats, tools }, QUESTION), REPORT);
  },
  async stream() {
    same(await streamed(chats), HELLO);
  },
  async tools() {
    same(await said({ model: chats, ...required }), REPORT);
  },
  async structured() {
    same(await said({ model: chats, outputType: Person }), LANA);
  },
  async responses() {
    same(await said({ model: MODEL, instructions: "Be short." }), HELLO);
    same(await said({ model: MODEL, tools }, QUESTION), REPORT);
    same(await said({ model: MODEL, ...required }), REPORT);
    same(await said({ model: MODEL, outputType: Person }), LANA);
    same(await streamed(MODEL), HELLO);
  },
});
