import { defineSchema } from "convex/server";
import { fondationTables } from "./tables";

/** The schema of a deployment of its own; an application spreads `fondationTables` into its own. */
export default defineSchema({ ...fondationTables });
