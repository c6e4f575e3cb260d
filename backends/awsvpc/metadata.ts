/**
 * Which instance this is and in which region, by the instance metadata service (IMDSv2).
 *
 * @module
 */
import { MetadataService } from "@aws-sdk/ec2-metadata-service";
import { getInstanceMetadataEndpoint } from "@smithy/credential-provider-imds";
import { Ec2Fault } from "./faults.ts";
import type { Where } from "./types.ts";

/** Milliseconds for an answer: the service is on the host itself. */
const LIMIT = 2_000;

const V1_DISABLED = "AWS_EC2_METADATA_V1_DISABLED";

/**
 * Refuses IMDSv1 for this process, credentials included, unless the environment says otherwise:
 * without a token, whatever makes this node send one request elsewhere gets the role's credentials.
 */
export function refuseMetadataV1(): void {
  if (Deno.env.get(V1_DISABLED) === undefined) Deno.env.set(V1_DISABLED, "true");
}

/**
 * Asks for what the environment does not say: the region in AWS_REGION, and that there is no service
 * to ask in AWS_EC2_METADATA_DISABLED.
 *
 * @throws {Ec2Fault} where the service does not answer
 */
export async function whereWeAre(): Promise<Where> {
  const region = Deno.env.get("AWS_REGION") || Deno.env.get("AWS_DEFAULT_REGION");
  const disabled = Deno.env.get("AWS_EC2_METADATA_DISABLED")?.toLowerCase() === "true";
  if (disabled && !region) throw fault("AWS_EC2_METADATA_DISABLED is true: set AWS_REGION as well");
  if (disabled) return { region: region!, instanceId: undefined };
  const endpoint = await serviceEndpoint();
  const service = new MetadataService({ endpoint, httpOptions: { timeout: LIMIT }, retries: 1 });
  const ask = async (path: string) => {
    try {
      // The service puts this behind the slash of its endpoint's URL.
      return (await service.request(`latest/meta-data/${path}`, {})).trim();
    } catch (error) {
      const reason = (error instanceof Error ? error.message : String(error)).replaceAll(
        /\s*\n\s*/g,
        " ",
      );
      throw fault(
        `the instance metadata service does not answer (${reason}): aws-vpc runs on EC2 instances ` +
          `whose metadata service is on and accepts IMDSv2${withoutIPv4(reason)}`,
      );
    }
  };
  const instanceId = await ask("instance-id");
  return { region: region || await ask("placement/region"), instanceId };
}

/** What to do where the node has no way to an IPv4 address. */
function withoutIPv4(reason: string): string {
  if (!/ENETUNREACH (?!\[)/.test(reason)) return "";
  return "; on a node without IPv4 set AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6";
}

/**
 * Where the service is, by the settings of the environment and the shared config file. Unlike what
 * reads credentials, the SDK's client of the service does not know that it may be at an IPv6 address.
 */
async function serviceEndpoint(): Promise<string> {
  try {
    const { protocol, hostname, port, path } = await getInstanceMetadataEndpoint();
    return `${protocol}//${hostname}${port === undefined ? "" : `:${port}`}${path}`;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw fault(
      `cannot determine where the instance metadata service is: ${reason}; correct ` +
        "AWS_EC2_METADATA_SERVICE_ENDPOINT or AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    );
  }
}

function fault(message: string): Ec2Fault {
  return new Ec2Fault("metadata", "metadata", "metadata", message);
}
