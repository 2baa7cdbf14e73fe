import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { action, internalMutation, mutation, query } from "./_generated/server";

export const add = mutation({
  args: { text: v.string(), rank: v.optional(v.number()) },
  returns: v.id("notes"),
  handler: async (ctx, note) => await ctx.db.insert("notes", note),
});

export const list = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map(({ text }) => text),
});

export const count = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).length,
});

/** The same, telling when it runs. */
export const watched = query({
  args: {},
  handler: async (ctx) => {
    console.log("running");
    return (await ctx.db.query("notes").collect()).length;
  },
});

/** Every sort of value there and back. */
export const echo = query({ args: { value: v.any() }, handler: async (_, { value }) => value });

/** The lowest rank above *rank*; reads one document through an index. */
export const nextByRank = query({
  args: { rank: v.number() },
  handler: async (ctx, { rank }) =>
    await ctx.db
      .query("notes")
      .withIndex("by_rank", (q) => q.gt("rank", rank))
      .first(),
});

/** The first note that is done; reads all that stand before it. */
export const firstDone = query({
  args: {},
  handler: async (ctx) =>
    await ctx.db
      .query("notes")
      .filter((q) => q.eq(q.field("done"), true))
      .first(),
});

export const refuse = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    await ctx.db.insert("notes", { text });
    throw new ConvexError({ code: "refused", count: 3 });
  },
});

export const refusedQuery = query({
  args: {},
  handler: async () => {
    throw new ConvexError({ code: "refused", count: 3 });
  },
});

export const crash = mutation({
  args: {},
  handler: async () => {
    throw new TypeError("out of tune");
  },
});

/** Promises a number and returns a text. */
export const breakPromise = mutation({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.insert("notes", { text: "broken promise" })) as never,
});

export const secret = internalMutation({
  args: { text: v.string() },
  handler: async (ctx, note) => await ctx.db.insert("notes", note),
});

export const remind = mutation({
  args: { text: v.string(), inMs: v.number() },
  handler: async (ctx, { text, inMs }) =>
    await ctx.scheduler.runAfter(inMs, internal.notes.secret, { text }),
});

export const addTwo = action({
  args: {},
  handler: async (ctx): Promise<string> => {
    await ctx.runMutation(internal.notes.secret, { text: "one of two" });
    await ctx.runMutation(internal.notes.secret, { text: "two of two" });
    return "added";
  },
});

export const clock = query({
  args: {},
  handler: async () => [Date.now(), Date.parse(new Date().toISOString())],
});

export const environment = query({ args: {}, handler: async () => process.env.GREETING ?? null });
