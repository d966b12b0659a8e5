// The Vercel AI SDK with @ai-sdk/openai, whose default is Responses.
import { createOpenAI } from "@ai-sdk/openai";
import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { CITY, City, HELLO, HI, KEY, LANA, MODEL, Person, QUESTION, REPORT, URL, joined, same, tell, weather } from "./asked.mjs";

const openai = createOpenAI({ baseURL: URL, apiKey: KEY });
const tools = { get_weather: tool({ description: "The weather of a city.", inputSchema: City, execute: weather }) };
const unkept = { openai: { store: false } };
const steps = { tools, stopWhen: stepCountIs(3) };

async function forced(model) {
  const { toolCalls } = await generateText({ model, prompt: HI, tools, toolChoice: "required" });
  same(toolCalls[0].input, CITY);
}

await tell({
  async chat() {
    same((await generateText({ model: openai.chat(MODEL), prompt: HI })).text, HELLO);
    same((await generateText({ model: openai.chat(MODEL), prompt: QUESTION, ...steps })).text, REPORT);
  },
  async stream() {
    same(await joined(streamText({ model: openai.chat(MODEL), prompt: HI }).textStream), HELLO);
  },
  tools: () => forced(openai.chat(MODEL)),
  async structured() {
    const output = Output.object({ schema: Person });
    same((await generateText({ model: openai.chat(MODEL), prompt: HI, output })).output, LANA);
  },
  async responses() {
    same((await generateText({ model: openai(MODEL), prompt: HI })).text, HELLO);
    same(await joined(streamText({ model: openai(MODEL), prompt: HI }).textStream), HELLO);
    const output = Output.object({ schema: Person });
    same((await generateText({ model: openai(MODEL), prompt: HI, output })).output, LANA);
    await forced(openai(MODEL));
    // Its later turns name earlier items by their ids, unless it is told that nothing is kept.
    same((await generateText({ model: openai(MODEL), prompt: QUESTION, ...steps, providerOptions: unkept })).text, REPORT);
  },
});
