/**
 * Shares the partitions of a consumer group out by ranges, under the protocol's name `range`: the way Go's client
 * (sarama) and Java's do by default, so that their programs and ours can be members of one queue. The client's own
 * assigner gives every member partitions of the leader's topics, also those the member never asked for, which nobody
 * then reads; here a member gets partitions of its own topics only.
 */
import kafkajs from "kafkajs";
import type { Cluster, PartitionAssigner } from "kafkajs";

interface Member {
  readonly memberId: string;
  readonly topics: readonly string[];
}

/** Each topic's members, by id, get neighbouring partitions; the first ones get one more where it does not come out even. */
export function assignRanges(
  members: readonly Member[],
  partitionsOf: (topic: string) => readonly number[],
): Map<string, Map<string, number[]>> {
  const assigned = new Map(members.map(({ memberId }) => [memberId, new Map<string, number[]>()]));
  for (const topic of new Set(members.flatMap(({ topics }) => topics))) {
    const partitions = partitionsOf(topic).toSorted((a, b) => a - b);
    const readers = members.filter(({ topics }) => topics.includes(topic)).map(({ memberId }) => memberId);
    readers.sort();
    const share = Math.floor(partitions.length / readers.length);
    const extra = partitions.length % readers.length;
    for (const [index, memberId] of readers.entries()) {
      const begin = index * share + Math.min(index, extra);
      const mine = partitions.slice(begin, begin + share + (index < extra ? 1 : 0));
      if (mine.length > 0) assigned.get(memberId)!.set(topic, mine);
    }
  }
  return assigned;
}

const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol;
const noUserData = Buffer.alloc(0);

/** @param onCluster is given the client's view of the cluster. */
export function rangeAssigner(onCluster: (cluster: Cluster) => void): PartitionAssigner {
  return ({ cluster }) => {
    onCluster(cluster);
    return {
      name: "range",
      version: 0,
      async assign({ members }) {
        const read = members.map(({ memberId, memberMetadata }) => ({
          memberId,
          topics: MemberMetadata.decode(memberMetadata)?.topics ?? [],
        }));
        // Topics that only others read are not among ours.
        const known = new Set(read.flatMap(({ topics }) => topics));
        for (const topic of known) await cluster.addMultipleTargetTopics([topic]).catch(() => known.delete(topic));
        const partitionsOf = (topic: string): number[] =>
          known.has(topic) ? cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId) : [];
        return [...assignRanges(read, partitionsOf)].map(([memberId, topics]) => ({
          memberId,
          memberAssignment: MemberAssignment.encode({
            version: 0,
            assignment: Object.fromEntries(topics),
            userData: noUserData,
          }),
        }));
      },
      protocol: ({ topics }) => ({
        name: "range",
        metadata: MemberMetadata.encode({ version: 0, topics, userData: noUserData }),
      }),
    };
  };
}
