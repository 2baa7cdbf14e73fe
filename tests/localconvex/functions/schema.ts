import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  notes: defineTable({
    text: v.string(),
    rank: v.optional(v.number()),
    done: v.optional(v.boolean()),
  }).index("by_rank", ["rank"]),
  ticks: defineTable({ by: v.string(), at: v.number() }),
  files: defineTable({ storageId: v.id("_storage") }),
});
