// @langchain/openai.
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { CITY, City, HELLO, HI, KEY, LANA, MODEL, PLAN, Person, URL, same, tell, weather } from "./asked.mjs";

const where = { model: MODEL, apiKey: KEY, configuration: { baseURL: URL } };
const model = new ChatOpenAI(where);
const get_weather = tool(weather, { name: "get_weather", description: "The weather of a city.", schema: City });

async function streamed(chat) {
  let text = "";
  for await (const chunk of await chat.stream(HI)) text += chunk.text;
  return text;
}

await tell({
  async chat() {
    same((await model.invoke(HI)).text, HELLO);
  },
  async stream() {
    same(await streamed(model), HELLO);
  },
  async tools() {
    const answer = await model.bindTools([get_weather], { tool_choice: "any" }).invoke(HI);
    same(answer.tool_calls[0].args, CITY);
  },
  async structured() {
    same(await model.withStructuredOutput(Person, { method: "jsonSchema" }).invoke(HI), LANA);
  },
  async responses() {
    const responses = new ChatOpenAI({ ...where, useResponsesApi: true });
    same((await responses.invoke(HI)).text, HELLO);
    same(await streamed(responses), HELLO);
    const answer = await responses.bindTools([get_weather], { tool_choice: "get_weather" }).invoke(HI);
    same(answer.tool_calls[0].args, CITY);
  },
  async plans() {
    const answer = await new ChatOpenAI({ ...where, modelKwargs: PLAN }).invoke(HI);
    same(answer.text.startsWith("Plan: "), true);
  },
});
