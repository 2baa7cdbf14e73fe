/** What these functions are, for a worker's `doctor` to compare with itself. */

/**
 * Rises by one whenever workers begin to say or to need what older functions do not know.
 *
 * Newer functions serve older workers, so a worker fits functions of its own number or a higher one.
 */
export const protocol = 1;

/** The release that these functions belong to. */
export const version = "0.1.0";
