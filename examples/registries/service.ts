// Nothing about the registry in here; its package only has to be installed.
import "../greeter/service.ts";
