/** Failures of handlers that are mistakes, told apart from those that are answers. */
import { MicroError } from "../errors.ts";

/**
 * A failure nobody meant to tell a caller: what a handler threw without being a {@link MicroError}, or an answer of its that
 * cannot be sent. Logged with its stack, and answered in a way that makes no Go caller run the handler again.
 */
export class HandlerFault extends MicroError {}
