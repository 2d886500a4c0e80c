/** Editions: what a file means follows from its own. */
import { Edition, type CodeGeneratorRequest, type FileDescriptorProto } from "@bufbuild/protobuf/wkt";
import { InputError } from "./options.ts";

/** Those of which everything that says something about messages is known here. */
export const oldestEdition = Edition.EDITION_PROTO2;
export const newestEdition = Edition.EDITION_2024;
const known: ReadonlySet<Edition> = new Set([Edition.EDITION_2023, Edition.EDITION_2024]);

/** Field of `edition` and `syntax` in what describes a file. */
const editionField = 14;
const syntaxField = 12;

/** @throws {InputError} for files of an edition that is not known: their fields may be something else than they were before it */
export function refuseEditions({ protoFile }: CodeGeneratorRequest): void {
  const faults = protoFile
    .filter(({ syntax, edition }) => syntax === "editions" && !known.has(edition))
    .map(
      (file) =>
        `${placeIn(file)}: ${nameOf(file.edition)} is not supported: proto2, proto3, and editions 2023 and 2024 are`,
    );
  if (faults.length > 0) throw new InputError(faults.join("\n"));
}

function nameOf(edition: Edition): string {
  // One that came later has no number here.
  return edition === Edition.EDITION_UNKNOWN ? "its edition" : `edition ${Edition[edition].replace("EDITION_", "")}`;
}

function placeIn({ name, sourceCodeInfo }: FileDescriptorProto): string {
  const found = sourceCodeInfo?.location.find(
    ({ path }) => path.length === 1 && (path[0] === editionField || path[0] === syntaxField),
  );
  const [line, column] = found?.span ?? [];
  return line === undefined ? name : `${name}:${line + 1}:${(column ?? 0) + 1}`;
}
