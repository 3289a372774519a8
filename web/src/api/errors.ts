/** An answer of the admin API that is no success, in its own words. */
export class ApiError extends Error {
  constructor(
    /** The HTTP status; 0: no answer came. */
    readonly status: number,
    readonly code: string,
    message: string,
    /** The path of the offending value in what was sent, "" where there is none. */
    readonly field: string,
  ) {
    super(message);
    this.name = "ApiError";
  }

  static async from(response: Response): Promise<ApiError> {
    try {
      // The playground hands on what the inference API says, whose errors name no field.
      const body = (await response.json()) as {
        error: { code: string | null; message: string; field?: string };
      };
      const { code, message, field = "" } = body.error;
      // Its own words begin with the field, which is told apart here.
      const about = message.startsWith(`${field}: `) ? message.slice(field.length + 2) : message;
      return new ApiError(response.status, code ?? "", about, field);
    } catch {
      return new ApiError(
        response.status,
        "unknown",
        `The gateway answered ${response.status} ${response.statusText}.`,
        "",
      );
    }
  }

  static unreachable(cause: unknown): ApiError {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new ApiError(
      0,
      "unreachable",
      `The gateway does not answer (${why}). Is it running? \`modelyard get controllers\` on its machine tells.`,
      "",
    );
  }
}

/** What went wrong, for a person. */
export function sentence(error: unknown): string {
  if (error instanceof ApiError && error.field !== "") return `${error.field}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
