import { v } from "convex/values";
import { action, mutation, query } from "./_generated/server";

export const uploadUrl = mutation({
  args: {},
  handler: async (ctx) => await ctx.storage.generateUploadUrl(),
});

export const keep = mutation({
  args: { storageId: v.id("_storage") },
  handler: async (ctx, file) => await ctx.db.insert("files", file),
});

export const url = query({
  args: { storageId: v.id("_storage") },
  handler: async (ctx, { storageId }) => await ctx.storage.getUrl(storageId),
});

export const describe = query({
  args: { storageId: v.id("_storage") },
  handler: async (ctx, { storageId }) => await ctx.db.system.get(storageId),
});

export const remove = mutation({
  args: { storageId: v.id("_storage") },
  handler: async (ctx, { storageId }) => await ctx.storage.delete(storageId),
});

export const storeText = action({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const storageId = await ctx.storage.store(new Blob([text], { type: "text/plain" }));
    return await (await ctx.storage.get(storageId))?.text();
  },
});
