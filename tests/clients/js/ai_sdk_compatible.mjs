// The Vercel AI SDK with @ai-sdk/openai-compatible.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, streamText, tool } from "ai";
import { CITY, City, HELLO, HI, KEY, LANA, MODEL, Person, URL, joined, same, tell, weather } from "./asked.mjs";

const provider = createOpenAICompatible({ name: "s3lora", baseURL: URL, apiKey: KEY, supportsStructuredOutputs: true });
const model = provider(MODEL);

await tell({
  async chat() {
    same((await generateText({ model, prompt: HI })).text, HELLO);
  },
  async stream() {
    same(await joined(streamText({ model, prompt: HI }).textStream), HELLO);
  },
  async tools() {
    const tools = { get_weather: tool({ description: "The weather.", inputSchema: City, execute: weather }) };
    const { toolCalls } = await generateText({ model, prompt: HI, tools, toolChoice: "required" });
    same(toolCalls[0].input, CITY);
  },
  async structured() {
    same((await generateText({ model, prompt: HI, output: Output.object({ schema: Person }) })).output, LANA);
  },
});
