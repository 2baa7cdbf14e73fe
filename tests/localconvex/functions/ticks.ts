import { v } from "convex/values";
import { internalMutation, mutation, query } from "./_generated/server";

export const tick = internalMutation({
  args: { by: v.string() },
  handler: async (ctx, { by }) => {
    await ctx.db.insert("ticks", { by, at: Date.now() });
  },
});

export const add = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("ticks", { by: "hand", at: Date.now() });
  },
});

export const all = query({
  args: {},
  handler: async (ctx) => await ctx.db.query("ticks").collect(),
});
