/** All types of a file and of those it imports. */
import type { Extension } from "./extension.ts";
import type { ProtoType } from "./proto-type.ts";

type AnyType = ProtoType<any> | Extension<any, any>;

/** What generated code says of a file: its types, and those of the files it imports. */
export interface FileTypes {
  readonly types: () => readonly AnyType[];
  readonly files: () => readonly FileTypes[];
}

/** Declare the types of a file: what generated code calls. Functions, so that nothing is made before it is needed. */
export function fileTypes(types: () => readonly AnyType[], files: () => readonly FileTypes[]): FileTypes {
  return { types, files };
}

/** Types as a list: TypeScript checks arguments one by one, while elements of an array with very many types are too much for it. */
export function typeList(...types: AnyType[]): AnyType[] {
  return types;
}

export function typesOfFiles(root: FileTypes): AnyType[] {
  const seen = new Set<FileTypes>([root]);
  // A set's iteration goes on with what is added meanwhile.
  for (const file of seen) for (const next of file.files()) seen.add(next);
  return [...seen].flatMap((file) => file.types());
}
