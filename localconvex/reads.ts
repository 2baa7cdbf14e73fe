import { getDocumentSize } from "convex/values";
import type { Internals } from "./internals.ts";
import { currentRun } from "./run.ts";

/** The table that a document belongs to; the engine's ids end in its name. */
export function tableOf(id: string): string {
  return id.replace(/^[0-9]+/, "");
}

/**
 * Note the tables that each call reads, and count its documents as Convex does.
 *
 * The engine counts what a query returns. Convex also counts what a filter looked at and dropped,
 * up to the last document that was asked for.
 */
export function watchReads({ components, transactionManager }: Internals): void {
  const { db } = components[""];
  const get = db.get.bind(db);
  const iterate = db._iterateDocs.bind(db);
  const resolveSource = db._resolveQuerySource.bind(db);
  db.get = (table, id) => {
    currentRun.getStore()?.tables.add(tableOf(id));
    return get(table, id);
  };
  db._iterateDocs = (table, callback) => {
    currentRun.getStore()?.tables.add(table);
    iterate(table, callback);
  };
  db._resolveQuerySource = (query) => {
    const source = resolveSource(query);
    const filterFn: typeof source.filterFn = (document) => {
      const passed = source.filterFn(document);
      if (!passed) transactionManager._metricsTracker?.trackRead(getDocumentSize(document));
      return passed;
    };
    return { ...source, filterFn };
  };
  db._evaluateQuery = (query) => {
    const { sortedDocs, filterFn, limit } = db._resolveQuerySource(query);
    const results = [];
    for (const document of sortedDocs) {
      if (limit !== null && results.length >= limit) break;
      if (filterFn(document)) results.push(document);
    }
    return results;
  };
}
