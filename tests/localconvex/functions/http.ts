import { httpRouter } from "convex/server";
import { httpAction } from "./_generated/server";

const http = httpRouter();
http.route({
  path: "/shout",
  method: "POST",
  handler: httpAction(async (_, request) => {
    const mark = new URL(request.url).searchParams.get("mark");
    return new Response((await request.text()).toUpperCase() + mark, { status: 201 });
  }),
});
export default http;
