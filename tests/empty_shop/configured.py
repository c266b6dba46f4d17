"""The same shop with an account at Bitsby: two settings are all that it takes."""

from unconfigured import *  # noqa: F403

OSCAR_BITSBY = {
    "API_KEY": "2d3c7e0a-51f4-4b86-a9d2-8c6e7f1b0a34",
    "PROJECT_ID": "c1a9f6d8-7b23-4e50-8f14-36d5a2e9b7c0",
}
