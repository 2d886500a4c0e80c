/** An element that has to be there. */
export function at<T>(list: readonly T[], index = 0): T {
  const value = list.at(index);
  if (value === undefined) throw new Error(`there are only ${list.length}`);
  return value;
}
