import type { CronJob } from "convex/server";

type Schedule = CronJob["schedule"];
type Calendar = Exclude<Schedule, { type: "interval" | "cron" }>;

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const WEEKDAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/**
 * The first run of a job that is new: an interval starts when it is deployed, as in Convex.
 *
 * @throws Error for a schedule that this backend does not know.
 */
export function firstRun(schedule: Schedule, now: number): number {
  return schedule.type === "interval" ? now : nextRun(schedule, now, now);
}

/** The run after the one of *previous*. Runs that were missed are left out, as in Convex. */
export function nextRun(schedule: Schedule, previous: number, now: number): number {
  if (schedule.type === "cron") {
    throw new Error("crons.cron is not supported; use interval, hourly, daily, weekly or monthly");
  }
  if (schedule.type === "interval") {
    const every = intervalMs(schedule);
    return previous + (Math.max(0, Math.floor((now - previous) / every)) + 1) * every;
  }
  return nextOnCalendar(schedule, Math.max(previous, now));
}

function intervalMs(schedule: Extract<Schedule, { type: "interval" }>): number {
  if ("seconds" in schedule) return schedule.seconds * SECOND;
  return "minutes" in schedule ? schedule.minutes * 60 * SECOND : schedule.hours * HOUR;
}

function nextOnCalendar(schedule: Calendar, after: number): number {
  const step = schedule.type === "hourly" ? HOUR : 24 * HOUR;
  const hours = schedule.type === "hourly" ? 0 : schedule.hourUTC * HOUR;
  const minutes = (schedule.minuteUTC ?? 0) * 60 * SECOND;
  let time = Math.floor(after / step) * step + hours + minutes;
  while (time <= after || !isOnDay(schedule, new Date(time))) time += step;
  return time;
}

function isOnDay(schedule: Calendar, date: Date): boolean {
  if (schedule.type === "weekly") return WEEKDAYS[date.getUTCDay()] === schedule.dayOfWeek;
  return schedule.type !== "monthly" || date.getUTCDate() === schedule.day;
}
