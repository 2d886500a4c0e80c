// @micro/core on Go's HTTP/1.1 wire.
import * as micro from "./micro.mjs";

export const serve = micro.serve;
export const connect = (address) => micro.connect(address, "");
