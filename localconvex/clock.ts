import { AsyncLocalStorage } from "node:async_hooks";

const machineNow = Date.now.bind(Date);
const instant = new AsyncLocalStorage<number>();
let moved = 0;

/** The deployment's time in milliseconds: the machine's, as far forward as it was moved. */
export function now(): number {
  return instant.getStore() ?? machineNow() + moved;
}

/** How far the clock stands ahead of the machine's, in milliseconds. */
export function ahead(): number {
  return moved;
}

/** Set how far the clock stands ahead of the machine's. */
export function setAhead(ms: number): void {
  moved = ms;
}

/** Run *work* with the clock standing still, as it does inside a query or mutation of Convex. */
export function atOneInstant<T>(work: () => T): T {
  return instant.run(now(), work);
}

/** Make `Date` tell this clock's time everywhere in the process, functions and engine alike. */
export function installClock(): void {
  globalThis.Date = new Proxy(Date, {
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length > 0 ? args : [now()], newTarget),
    apply: () => new Date(now()).toString(),
    get: (target, name) => (name === "now" ? now : Reflect.get(target, name)),
  });
}
