# SPDX-License-Identifier: Apache-2.0
"""What a policy's vectors mean, and conversions to absolute references."""
