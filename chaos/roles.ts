/**
 * The fleet, one role a process: `shop` takes an order and calls `orders`, which calls `stock` and `payment` and tells
 * `mailer`; `feed` streams, and hears every news.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { errors, type Context, type MicroService } from "@micro/core";

export const roleNames = ["shop", "orders", "stock", "payment", "mailer", "feed"] as const;
export type RoleName = (typeof roleNames)[number];

export interface Order {
  readonly id: string;
}

export interface TicksRequest {
  readonly count: number;
  readonly everyMs: number;
}

export interface Tick {
  readonly n: number;
}

/** What the driver is told of effects: a line each, in a file that outlives a killed process. */
export type Effect = (what: "reserved" | "charged" | "mailed" | "heard", id: string) => void;

/** Gives the service its handlers. */
export const roles: Readonly<Record<RoleName, (service: MicroService, effect: Effect) => void>> = {
  shop(service) {
    service.handle("Shop", {
      order: (order: Order) => service.call("orders", "Orders.Place", order),
      mustBeShop: () => ({ role: "shop" }),
    });
  },
  orders(service) {
    service.handle("Orders", {
      async place(order: Order) {
        await service.call("stock", "Stock.Change", order);
        await service.call("payment", "Payment.Change", order);
        await service.publish("order.placed", order);
        return order;
      },
    });
  },
  // Both have an endpoint of the same name: a call that reaches the wrong one would be answered.
  stock(service, effect) {
    for (const type of ["Stock", "Payment"])
      service.handle(type, { change: changing("stock", type, "reserved", effect) });
  },
  payment(service, effect) {
    for (const type of ["Stock", "Payment"])
      service.handle(type, { change: changing("payment", type, "charged", effect) });
  },
  mailer(service, effect) {
    service.subscribe("order.placed", (order: Order) => effect("mailed", order.id), { queue: "mailer" });
    service.subscribe("event", (order: Order) => effect("mailed", order.id), { queue: "events" });
  },
  feed(service, effect) {
    service.handle("Feed", {
      async *ticks({ count, everyMs }: TicksRequest, context: Context): AsyncGenerator<Tick> {
        for (let n = 1; n <= count; n++) {
          await sleep(everyMs, undefined, { signal: context.signal });
          yield { n };
        }
      },
    });
    service.subscribe("news", (order: Order) => effect("heard", order.id));
  },
};

function changing(role: string, type: string, what: "reserved" | "charged", effect: Effect) {
  return async (order: Order) => {
    // Called under the other's name: nobody has done what was asked for.
    if (type.toLowerCase() !== role) {
      effect(what, `wrong:${order.id}`);
      throw errors.internalServerError(role, `a call for ${type} came to ${role}`);
    }
    effect(what, order.id);
    await sleep(2);
    return { role };
  };
}
