import { Buffer } from "node:buffer";
import { convexToJson, type JSONValue, type Value } from "convex/values";

/**
 * JSON text of *value* with every number as a float (`3.0`).
 *
 * Convex prints its numbers so, and the Python client refuses a bare `3`.
 */
export function toJson(value: JSONValue): string {
  if (typeof value === "number") {
    return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value);
  }
  if (Array.isArray(value)) return `[${value.map(toJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return `{${fields.map(([k, v]) => `${JSON.stringify(k)}:${toJson(v as JSONValue)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

export type Format = "json" | "convex_encoded_json";

export function isFormat(name: unknown): name is Format {
  return name === "json" || name === "convex_encoded_json";
}

/** *value* in the format that the client asked for; `json` loses the types JSON has not. */
export function exported(value: Value, format: Format): JSONValue {
  return format === "json" ? clean(value) : convexToJson(value);
}

function clean(value: Value): JSONValue {
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (value instanceof ArrayBuffer) return Buffer.from(value).toString("base64");
  if (Array.isArray(value)) return value.map(clean);
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return Object.fromEntries(fields.map(([key, field]) => [key, clean(field as Value)]));
  }
  return value;
}

/** A timestamp as the socket protocol carries it: base64 of eight bytes, little end first. */
export function u64(timestamp: bigint): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(timestamp);
  return bytes.toString("base64");
}
