import { cronJobs } from "convex/server";
import { internal } from "./_generated/api";

const crons = cronJobs();
crons.interval("minute tick", { minutes: 1 }, internal.ticks.tick, { by: "minute" });
crons.daily("daily tick", { hourUTC: 3, minuteUTC: 30 }, internal.ticks.tick, { by: "daily" });
export default crons;
