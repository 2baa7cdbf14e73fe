/**
 * Where these functions stand inside the deployment's `convex/` folder.
 *
 * The empty text when they are the whole of it; `"fondation/"` when the folder was copied to
 * `convex/fondation/`. The scheduler and the crons name functions by path, so they must know.
 */
export const folder = "";
